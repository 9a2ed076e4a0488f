"""All containers of this agent: orders, agreement with the master, letting go and finding again."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from shipway_agent.containers.container import ManagedContainer
from shipway_agent.containers.ends import (
    AGENT_STOPPED,
    GONE_AFTER_OUTAGE,
    GONE_AFTER_RESTART,
    UNKNOWN_CONTAINER,
)
from shipway_agent.containers.finding import OUTPUT_LOST, Found, find_left
from shipway_agent.containers.orders import Identity, check_order, first_record, spec_maker
from shipway_agent.containers.records import Record
from shipway_agent.containers.state import State
from shipway_agent.containers.surroundings import Surroundings
from shipway_agent.errors import StartRefused
from shipway_agent.master.link import Greeting
from shipway_agent.master.messages import (
    AgentMessage,
    AgentStarted,
    Container,
    ContainerLog,
    Device,
    Failure,
    FailureType,
    MasterOptions,
    PullStats,
    Reattached,
    SignalContainer,
    SlotHealth,
    StartContainer,
    StateChanged,
)
from shipway_agent.master.outbox import Outbox
from shipway_agent.runtimes.spec import ContainerHandle, ContainerId
from shipway_common.logsetup import log_context

log = logging.getLogger(__name__)

_REMEMBERED_ENDS = 1024
_SAVE_INTERVAL_S = 1.0
_DETACH_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningContainer:
    """A container that runs now, for whoever measures it."""

    id: ContainerId
    allocation_id: str
    task_type: str
    devices: tuple[Device, ...]
    handle: ContainerHandle
    trial_id: str | None
    session_token: str | None = field(repr=False)
    """The allocation's; None where the order had none."""
    profiles: bool
    """Whether the task asked to be profiled."""


class ContainerManager:
    """Carries out the master's orders. Entered with `async with`; leaving lets go of containers."""

    def __init__(
        self,
        *,
        identity: Identity,
        around: Surroundings,
        outbox: Outbox,
        device_problem: Callable[[str], str | None],
    ) -> None:
        """Make a manager without containers.

        Args:
            device_problem: Says of a device's UUID why it should not be used now.
        """
        self._identity = identity
        self._around = around
        self._outbox = outbox
        self._device_problem = device_problem
        self._group = asyncio.TaskGroup()
        self._keeper: asyncio.Task[None] | None = None
        self._containers: dict[ContainerId, ManagedContainer] = {}
        self._tasks: dict[ContainerId, asyncio.Task[None]] = {}
        self._ends: OrderedDict[ContainerId, StateChanged] = OrderedDict()
        self._found: dict[ContainerId, Found] = {}
        self._options: MasterOptions | None = None
        self._is_stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def __aenter__(self) -> ContainerManager:
        await self._group.__aenter__()
        self._keeper = self._group.create_task(self._keep_records(), name="keep records")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
        for task in self._tasks.values():
            task.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            for container in self._containers.values():
                await container.save_if_dirty()

    async def load(self) -> None:
        """Find the containers that an earlier process of this agent left; before dialing.

        Raises:
            ContainerRuntimeError: The runtime does not list them, or another one has some.
            OSError: The records cannot be read.
        """
        self._found = await find_left(self._around, self._identity)

    async def wait_idle(self) -> None:
        """Wait until there is no container, not even one whose end the master has not heard of."""
        await self._idle.wait()

    def running(self) -> list[RunningContainer]:
        """List the containers that run now."""
        return [
            RunningContainer(
                id=container.id,
                allocation_id=container.record.allocation_id,
                task_type=container.record.task_type,
                devices=container.record.container.devices or (),
                handle=container.handle,
                trial_id=container.record.trial_id,
                session_token=container.record.session_token,
                profiles=container.record.profiles,
            )
            for container in self._containers.values()
            if container.state is State.RUNNING and container.handle is not None
        ]

    def list_all(self) -> list[tuple[Record, ContainerHandle | None]]:
        """List the containers in any state, each with the runtime's one if there is one."""
        return [(one.record, one.handle) for one in self._containers.values()]

    async def detach(self) -> None:
        """Take no more orders, end what does not run yet, and let go of what does."""
        self._is_stopping = True
        launching = [one for one in self._containers.values() if one.is_launching]
        for container in launching:
            container.stop_launch(AGENT_STOPPED)
        for container in self._containers.values():
            if container.state is State.RUNNING and not container.ended.is_set():
                self._tasks[container.id].cancel()
        if launching:
            try:
                async with asyncio.timeout(_DETACH_LIMIT_S):
                    for container in launching:
                        await container.ended.wait()
            except TimeoutError:
                log.error("launches do not end; their containers are found at the next start")

    async def drain(self, grace_s: float) -> None:
        """Take no more orders and end all containers: by SIGTERM, and after *grace_s* by SIGKILL.

        Those that the master has not agreed on are no one's to end, and are left alone.
        """
        self._is_stopping = True
        if self._found:
            log.warning("containers of no agreed master go on", extra={"number": len(self._found)})
        running = [one for one in self._containers.values() if not one.ended.is_set()]
        log.info("ending the containers", extra={"number": len(running), "grace_s": grace_s})
        for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _DETACH_LIMIT_S)):
            for container in running:
                if not container.ended.is_set():
                    container.end(number)
            try:
                async with asyncio.timeout(limit_s):
                    for container in running:
                        await container.ended.wait()
                return
            except TimeoutError:
                left = sum(not container.ended.is_set() for container in running)
                log.warning("containers go on after %s", number.name, extra={"number": left})

    async def wait_settled(self) -> None:
        """Wait until the containers that have ended are told, read by the master and removed."""
        tasks = [
            self._tasks[container.id]
            for container in self._containers.values()
            if container.ended.is_set()
        ]
        if tasks:
            await asyncio.wait(tasks)

    # orders

    def greet(self, options: MasterOptions) -> Greeting:
        """Agree with the master on what is here; see `Obeys.greet`."""
        is_first = self._options is None
        self._options = options
        self._adopt(options)
        expected = {container.id: container for container in options.expected}
        reattached = [
            self._acknowledge(container, is_first=is_first) for container in options.expected
        ]
        missed: list[AgentMessage] = []
        for container_id, container in list(self._containers.items()):
            if container.record.cluster_id != options.cluster_id:
                self._let_go(container)
            elif container_id in expected:
                missed += container.missed_by(expected[container_id].state)
            else:
                self._disown(container)
        self._outbox.rewind(lambda message: _is_wanted(message, expected))
        for container_id in expected.keys() & self._ends.keys():
            if container_id not in self._containers:
                self._tell_end(container_id)
        return Greeting(
            started=AgentStarted(
                version=self._identity.version,
                devices=self._identity.devices,
                reattached=reattached,
                resource_pool=self._identity.resource_pool,
            ),
            missed=missed,
        )

    def obey(self, order: StartContainer | SignalContainer) -> None:
        """Take an order; see `Obeys.obey`."""
        match order:
            case StartContainer():
                self._start(order)
            case SignalContainer():
                self._signal(order)

    def _start(self, order: StartContainer) -> None:
        container = order.container
        with log_context(container_id=container.id):
            if container.id in self._containers:
                log.warning("start order ignored: the container is here already")
                return
            if container.id in self._ends:
                log.warning("start order ignored: the container has ended")
                self._tell_end(container.id)
                return
            try:
                if self._is_stopping:
                    raise StartRefused(AGENT_STOPPED.message)
                check_order(order, self._identity, self._device_problem)
            except StartRefused as error:
                log.error("start refused: %s", error)
                failure = Failure(type=FailureType.AGENT_ERROR, message=str(error))
                ended = replace(container, state=State.TERMINATED)
                self._remember_end(StateChanged(container=ended, failure=failure))
                self._tell_end(container.id)
                return
            self._accept(order)

    def _accept(self, order: StartContainer) -> None:
        assert self._options is not None  # no order comes before the greeting
        identity, options = self._identity, self._options
        record = first_record(order, identity, options, self._around.runtime.name)
        managed = ManagedContainer(record, self._around)
        predecessors = self._with_devices_of(order.container)
        make_spec = spec_maker(order, identity, options, record)
        log.info("container ordered", extra={"description": order.container.description})
        self._spawn(managed, managed.live(make_spec, predecessors))

    def _signal(self, order: SignalContainer) -> None:
        container_id = order.container_id
        with log_context(container_id=container_id):
            if managed := self._containers.get(container_id):
                if not 0 < order.number < signal.NSIG:
                    log.error("signal ignored: there is none of that number: %d", order.number)
                    return
                log.info("signal ordered", extra={"signal": order.number})
                if managed.state is State.TERMINATED:
                    self._around.reports.state(
                        managed.record.container, failure=managed.record.failure
                    )
                else:
                    managed.signal(order.number)
            elif container_id in self._ends:
                self._tell_end(container_id)
            else:
                log.warning("signal ordered for a container that is not here")
                unknown = Container(id=container_id, state=State.TERMINATED)
                self._around.reports.state(unknown, failure=UNKNOWN_CONTAINER)

    # agreement

    def _adopt(self, options: MasterOptions) -> None:
        """Take up the found containers of this cluster; those of another are not ours to touch."""
        expected = {container.id: container for container in options.expected}
        for container_id, found in list(self._found.items()):
            if found.record.cluster_id != options.cluster_id:
                log.warning(
                    "a container of another cluster is left alone",
                    extra={"container_id": container_id, "cluster_id": found.record.cluster_id},
                )
                continue
            del self._found[container_id]
            record = found.record
            if found.is_guess and (named := expected.get(container_id)) is not None:
                devices = named.devices or record.container.devices
                record = replace(record, container=replace(record.container, devices=devices))
                self._around.reports.note(container_id, OUTPUT_LOST, "WARNING")
            managed = ManagedContainer(record, self._around, owned=found.owned)
            self._spawn(managed, managed.resume())

    def _acknowledge(self, expected: Container, *, is_first: bool) -> Reattached:
        """Answer for one container that the master expects here.

        The state is the master's own, wherever ours is: the Go master takes another one for the
        end of the container. What it missed follows as state changes, the end after the last line
        of output.
        """
        known: Container | None = None
        if (managed := self._containers.get(expected.id)) is not None:
            known = managed.record.container
        elif (end := self._ends.get(expected.id)) is not None:
            known = end.container
        if known is None:
            log.warning("expected container is not here", extra={"container_id": expected.id})
            failure = GONE_AFTER_RESTART if is_first else GONE_AFTER_OUTAGE
            return Reattached(container=Container(id=expected.id), failure=failure)
        description = known.description if is_first else ""
        return Reattached(container=replace(known, state=expected.state, description=description))

    def _disown(self, container: ManagedContainer) -> None:
        if not container.ended.is_set():
            log.warning(
                "killing a container the master knows nothing of",
                extra={"container_id": container.id},
            )
        container.disown()

    def _let_go(self, container: ManagedContainer) -> None:
        log.warning(
            "the master is another one now; a container of the former is left alone",
            extra={"container_id": container.id, "cluster_id": container.record.cluster_id},
        )
        self._tasks.pop(container.id).cancel()
        del self._containers[container.id]

    def _tell_end(self, container_id: ContainerId) -> None:
        end = self._ends[container_id]
        self._around.reports.state(end.container, failure=end.failure)

    def _remember_end(self, end: StateChanged) -> None:
        self._ends[end.container.id] = end
        while len(self._ends) > _REMEMBERED_ENDS:
            self._ends.popitem(last=False)

    # tasks

    def _spawn(self, managed: ManagedContainer, life: Coroutine[Any, Any, None]) -> None:
        self._containers[managed.id] = managed
        self._idle.clear()
        self._tasks[managed.id] = self._group.create_task(
            self._stay_with(managed, life), name=f"container {managed.id}"
        )

    async def _stay_with(self, managed: ManagedContainer, life: Coroutine[Any, Any, None]) -> None:
        with log_context(container_id=managed.id):
            try:
                await life
            except Exception:
                log.exception("the watch over a container failed; it is ended")
                await managed.crash()
        record = managed.record
        if self._containers.get(managed.id) is not managed:
            return
        self._remember_end(StateChanged(container=record.container, failure=record.failure))
        del self._containers[managed.id]
        del self._tasks[managed.id]
        if not self._containers:
            self._idle.set()

    async def _keep_records(self) -> None:
        """Write down now and then how much output the master has read."""
        while True:
            await asyncio.sleep(_SAVE_INTERVAL_S)
            for container in list(self._containers.values()):
                await container.save_if_dirty()

    def _with_devices_of(self, container: Container) -> list[ManagedContainer]:
        wanted = {device.uuid for device in container.devices or ()}
        return [
            other
            for other in self._containers.values()
            if not other.ended.is_set()
            and any(device.uuid in wanted for device in other.record.container.devices or ())
        ]


def _is_wanted(message: AgentMessage, expected: Mapping[ContainerId, Container]) -> bool:
    """Say whether a message that may have been lost is still of use on a new connection.

    States before the end are told anew, from what the master says it knows.
    """
    match message:
        case StateChanged():
            is_end = message.container.state is State.TERMINATED
            return is_end and message.container.id in expected
        case ContainerLog() | PullStats():
            return message.container_id in expected
        case AgentStarted() | SlotHealth():
            return False
