"""Everything that happens to one agent, handled in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from shipway_common.backoff import backoff_delays_s
from shipway_master.agents.agent import Agent, PlacedContainer
from shipway_master.agents.messages import (
    AgentStarted,
    ContainerLog,
    FromAgent,
    SlotHealth,
    StateChanged,
    StatsRecord,
    render_kill,
    render_shutdown,
    render_start,
)
from shipway_master.agents.output import TaskOutput
from shipway_master.agents.reattach import Fate, Verdict, judge
from shipway_master.agents.records import AgentRecords
from shipway_master.agents.session import Session
from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.ids import AllocationId, ResourcesId
from shipway_master.allocations.life import ResourcesState, advance_resources
from shipway_master.background import finish_first
from shipway_master.cluster.manager import Change, Holder
from shipway_master.errors import Unavailable

log = logging.getLogger(__name__)

_LINES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Joined:
    """A new connection is open and the options were sent on it."""

    session: Session
    asked: Sequence[ResourcesId]
    """The containers that the options named."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message came in."""

    session: Session
    message: FromAgent


@dataclass(frozen=True, slots=True)
class Left:
    """A connection is over."""

    session: Session


@dataclass(frozen=True, slots=True)
class Overdue:
    """The agent has not begun with a container in time."""

    container_id: ResourcesId


@dataclass(frozen=True, slots=True)
class Expired:
    """The time is over in which a lost agent could have come back."""

    timer: int


class Surroundings(Protocol):
    """What a worker needs of the agent manager."""

    records: AgentRecords
    output: TaskOutput
    start_wait_s: float

    def find_holder(self, allocation_id: AllocationId) -> Holder | None:
        """The allocation of that id, if it lives."""
        ...

    def get_reconnect_wait_s(self, pool: str) -> float:
        """How long a lost agent of the pool is waited for."""
        ...

    def room_changed(self) -> None:
        """Say that the scheduler may find more room, or less."""
        ...

    def remove(self, agent: Agent) -> None:
        """Forget an agent."""
        ...


class Worker:
    """Handles the inbox of one agent."""

    def __init__(self, agent: Agent, around: Surroundings) -> None:
        self._agent = agent
        self._around = around
        self._asked: Sequence[ResourcesId] = ()
        self._timer = 0

    async def run(self) -> None:
        """Handle what comes, until the agent is removed."""
        agent = self._agent
        while not agent.is_removed:
            event = await agent.inbox.take()
            try:
                await finish_first(self._handle(event))
            except Exception:
                # Whatever it was, a new connection brings both sides into agreement again.
                log.exception("handling an agent failed", extra={"agent_id": agent.id})
                if agent.session is not None:
                    agent.session.close()
            finally:
                if isinstance(event, Received):
                    event.session.handled()

    def expect_return(self) -> None:
        """Give the agent of an earlier process its time to come back, which it can from now on."""
        if self._agent.session is None:
            self._start_waiting()

    async def _handle(self, event: object) -> None:
        match event:
            case Joined(session, asked):
                if session is self._agent.session:
                    self._asked = asked
            case Left(session):
                await self._left(session)
            case Received(session, message):
                if session is self._agent.session:
                    await self._received(session, message)
            case Overdue(container_id):
                self._kill_overdue(container_id)
            case Expired(timer):
                if timer == self._timer and self._agent.session is None:
                    await self._give_up(
                        Failure(
                            type=FailureType.AGENT_FAILED,
                            message="agent closed with allocated containers",
                        )
                    )
            case _:
                raise AssertionError(f"nobody puts {event!r} into an inbox")

    # its connection

    async def _left(self, session: Session) -> None:
        agent = self._agent
        if session is not agent.session:
            return
        agent.session, agent.is_started = None, False
        self._around.room_changed()
        if agent.is_known:
            log.info("agent lost its connection", extra={"agent_id": agent.id})
            self._start_waiting()
        else:
            self._around.remove(agent)

    def _start_waiting(self) -> None:
        self._timer += 1
        wait_s = self._around.get_reconnect_wait_s(self._agent.pool)
        expired = Expired(self._timer)
        asyncio.get_running_loop().call_later(wait_s, self._agent.inbox.put, expired)

    async def _give_up(self, failure: Failure) -> None:
        agent = self._agent
        log.warning(
            "agent is given up",
            extra={"agent_id": agent.id, "containers": len(agent.containers)},
        )
        containers = list(agent.containers.values())
        self._around.remove(agent)
        await _when_stored(lambda: self._around.records.remove(agent))
        for container in containers:
            await self._ended(container, failure)

    # its messages

    async def _received(self, session: Session, message: FromAgent) -> None:
        if isinstance(message, AgentStarted):
            await self._started(session, message)
        elif not self._agent.is_started:
            log.warning(
                "agent spoke before it said what it has; its connection is dropped",
                extra={"agent_id": self._agent.id},
            )
            session.close()
        elif isinstance(message, StateChanged):
            await self._state_changed(session, message)
        elif isinstance(message, ContainerLog):
            await self._logged(session, message)
        elif isinstance(message, SlotHealth):
            self._take_health(message.problems)
        else:
            _note_stats(message)

    async def _logged(self, session: Session, first: ContainerLog) -> None:
        def more(event: object) -> ContainerLog | None:
            if isinstance(event, Received) and event.session is session:
                return event.message if isinstance(event.message, ContainerLog) else None
            return None

        rest = self._agent.inbox.take_more(more, limit=_LINES_AT_ONCE)
        try:
            await self._around.output.append([first, *rest])
        finally:
            for _ in rest:
                session.handled()

    async def _started(self, session: Session, message: AgentStarted) -> None:
        agent = self._agent
        if agent.is_started:
            log.warning("agent started twice", extra={"agent_id": agent.id})
            session.close()
            return
        if agent.is_known and not (
            agent.has_devices(message.devices) and (message.pool or "default") == agent.pool
        ):
            log.warning("agent came back with other devices", extra={"agent_id": agent.id})
            session.send(render_shutdown())
            session.close()
            await self._give_up(
                Failure(
                    type=FailureType.AGENT_FAILED,
                    message="agent came back with other devices or another resource pool",
                )
            )
            return
        if not agent.is_known:
            agent.set_devices(message.devices)
        agent.is_known = True
        self._take_health(message.problems)
        await _when_stored(lambda: self._around.records.save(agent))
        for verdict in judge(self._asked, agent.containers, message.reattached):
            await self._carry_out(session, verdict)
        agent.is_started = True
        log.info(
            "agent is ready",
            extra={"agent_id": agent.id, "pool": agent.pool, "slots": len(agent.slots)},
        )
        self._resend_kills(session)
        self._around.room_changed()

    def _take_health(self, problems: Mapping[int, str]) -> None:
        """Give slots that are not well no work; what runs there goes on, as people's flags do."""
        agent = self._agent
        for number, problem in agent.set_problems(problems).items():
            about = {"agent_id": agent.id, "slot": number, "uuid": agent.slots[number].device.uuid}
            if problem is None:
                log.info("a slot is fit for use again", extra=about)
            else:
                log.warning("a slot is not fit for use", extra={**about, "problem": problem})
        self._around.room_changed()

    async def _carry_out(self, session: Session, verdict: Verdict) -> None:
        container = self._agent.containers[verdict.container_id]
        match verdict.fate:
            case Fate.LIVES:
                if verdict.state is not container.state:
                    await self._advanced(container, Change(state=verdict.state))
            case Fate.NEVER_ARRIVED:
                if container.order is not None:
                    session.send(render_start(container.id, container.order))
                    self.expect_beginning(container)
            case Fate.ENDED:
                await self._ended(container, verdict.failure)
                session.send(render_kill(container.id))

    def _resend_kills(self, session: Session) -> None:
        for container in self._agent.containers.values():
            holder = self._around.find_holder(container.allocation_id)
            if holder is None or holder.is_killed:
                session.send(render_kill(container.id))

    async def _state_changed(self, session: Session, message: StateChanged) -> None:
        container = self._agent.containers.get(message.container.id)
        if container is None:
            if message.container.state is not ResourcesState.TERMINATED:
                log.warning(
                    "agent runs a container that nobody wants; it is told to end it",
                    extra={"container_id": message.container.id},
                )
                session.send(render_kill(message.container.id))
            return
        if message.stopped is not None:
            await self._ended(container, message.stopped.failure)
            return
        change = Change(state=message.container.state)
        if message.started is not None:
            change = Change(
                state=message.container.state,
                addresses=message.started.addresses,
                native_id=message.started.native_id,
            )
        await self._advanced(container, change)

    async def _advanced(self, container: PlacedContainer, change: Change) -> None:
        container.state = advance_resources(container.state, change.state)
        holder = self._around.find_holder(container.allocation_id)
        if holder is not None:
            await holder.changed(container.id, change)

    async def _ended(self, container: PlacedContainer, failure: Failure | None) -> None:
        if container.is_overdue and failure is not None and failure.exit_code is None:
            failure = Failure(
                type=FailureType.AGENT_ERROR,
                message=f"the agent did not begin within {self._around.start_wait_s:g} s",
            )
        self._agent.free(container.id)
        self._around.room_changed()
        holder = self._around.find_holder(container.allocation_id)
        if holder is not None:
            change = Change(state=ResourcesState.TERMINATED, failure=failure)
            await holder.changed(container.id, change)

    # its orders

    def expect_beginning(self, container: PlacedContainer) -> None:
        """Look after a while whether the agent has begun with a container."""
        asyncio.get_running_loop().call_later(
            self._around.start_wait_s, self._agent.inbox.put, Overdue(container.id)
        )

    def _kill_overdue(self, container_id: ResourcesId) -> None:
        agent = self._agent
        container = agent.containers.get(container_id)
        if container is None or container.state is not ResourcesState.ASSIGNED:
            return
        if agent.session is None or not agent.is_started:
            return  # it will be asked for the container when it comes back
        log.warning("agent does not begin with a container", extra={"container_id": container_id})
        container.is_overdue = True
        agent.session.send(render_kill(container_id))


def _note_stats(message: StatsRecord) -> None:
    log.debug(
        "image pull %s",
        "ended" if message.is_end else "began",
        extra={"allocation_id": message.allocation_id},
    )


async def _when_stored(write: Callable[[], Awaitable[None]]) -> None:
    """Repeat a write that the database has no room for just now."""
    for delay_s in backoff_delays_s(limit_s=10.0):
        try:
            await write()
            return
        except Unavailable as error:
            log.error("an agent cannot be stored; trying again", extra={"error": str(error)})
            await asyncio.sleep(delay_s)
