"""The life of one container, from the order to the master's knowledge of its end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence
from dataclasses import replace

from shipway_agent.containers.ends import (
    AGENT_STOPPED,
    GONE_AFTER_RESTART,
    KILLED_BEFORE_RUN,
    LAUNCH_CUT_OFF,
    failure_of_launch,
    failure_of_stop,
)
from shipway_agent.containers.follow import Follower, Wishes
from shipway_agent.containers.orders import MakeSpec
from shipway_agent.containers.records import Record
from shipway_agent.containers.removal import remove_all_of, remove_ended
from shipway_agent.containers.state import State, states_between, transition
from shipway_agent.containers.surroundings import Surroundings
from shipway_agent.errors import AgentError, StartRefused
from shipway_agent.master.messages import Failure, FailureType, Level, Running, StateChanged
from shipway_agent.runtimes.spec import (
    Address,
    ContainerHandle,
    ContainerId,
    ContainerSpec,
    ContainerState,
    Event,
    EventKind,
    Exit,
    Owned,
    Stream,
)
from shipway_agent.tasks import first_ended, uncut

log = logging.getLogger(__name__)


class ManagedContainer:
    """One container. Its state is changed by its own task only, which runs `live` or `resume`.

    Cancelling that task lets go of the container: it goes on, and another agent finds it.
    """

    def __init__(self, record: Record, around: Surroundings, *, owned: Owned | None = None) -> None:
        """Make the container; `live` or `resume` does the rest.

        Args:
            owned: What the runtime knows of one that another agent process started.
        """
        self._around = around
        self._record = record
        self._delivered = dict(record.delivered)
        self._reached = State.ASSIGNED
        """The last state before the end that this process can tell about."""
        self._save_lock = asyncio.Lock()
        self._is_dirty = False
        self._is_unwritten = False
        """Whether the last try to write the record failed."""
        self._is_forgotten = False
        self._owned = owned
        self._handle: ContainerHandle | None = None
        self._addresses: tuple[Address, ...] = ()
        if owned is not None:
            self._handle = owned.handle
            self._addresses = owned.addresses
            if owned.state is not ContainerState.CREATED and self.state is not State.TERMINATED:
                self._reached = self.state
        # The queue of signals is bounded by the master's patience.
        self._wishes = Wishes(signals=asyncio.Queue(), unwanted=asyncio.Event())
        self._launch_stopped = asyncio.Event()
        self._stop_reason = KILLED_BEFORE_RUN
        self._acknowledged = asyncio.Event()
        self.ended = asyncio.Event()
        """Set when no process of the container is left."""

    @property
    def id(self) -> ContainerId:
        """The master's name for the container."""
        return self._record.container.id

    @property
    def record(self) -> Record:
        """What is known of it; of its output, what was delivered when this was last saved."""
        return self._record

    def current_record(self) -> Record:
        """Return what is known of it now, with all of its output that was delivered."""
        return replace(self._record, delivered=dict(self._delivered))

    @property
    def owned(self) -> Owned | None:
        """What the runtime has of it, as far as that is known without asking."""
        if self._handle is None:
            return None
        state = ContainerState.RUNNING if self.state is State.RUNNING else ContainerState.CREATED
        has_ended = self.ended.is_set()
        return Owned(
            handle=self._handle,
            container_id=self.id,
            state=ContainerState.EXITED if has_ended else state,
            exit=Exit(code=None) if has_ended else None,
            labels={},
            addresses=self._addresses,
        )

    @property
    def handle(self) -> ContainerHandle | None:
        """The runtime's container; None before it is made."""
        return self._handle

    @property
    def state(self) -> State:
        """How far it is."""
        return self._record.container.state

    @property
    def is_launching(self) -> bool:
        """Whether it has not run yet and may still."""
        return self.state.is_before(State.RUNNING)

    def signal(self, number: int) -> None:
        """Send a signal as soon as the container runs; SIGKILL also ends a launch."""
        self._wishes.signals.put_nowait(number)
        if number == signal.SIGKILL:
            self._launch_stopped.set()

    def stop_launch(self, reason: Failure) -> None:
        """End the launch if the container does not run yet; *reason* is told to the master."""
        if not self._launch_stopped.is_set():
            self._stop_reason = reason
            self._launch_stopped.set()

    def end(self, number: int) -> None:
        """End the container because the agent stops: by signal *number*, or before it runs."""
        self._record = replace(self._record, ended_by_agent=True)
        self._is_dirty = True
        self.stop_launch(AGENT_STOPPED)
        self.signal(number)

    def disown(self) -> None:
        """Kill the container and tell nobody: the master knows nothing of it."""
        self._wishes.unwanted.set()
        self._acknowledged.set()
        self.signal(signal.SIGKILL)

    def missed_by(self, known: State) -> list[StateChanged]:
        """Tell the states after *known* that the container had, but for its end."""
        container = self._record.container
        return [
            StateChanged(
                container=replace(container, state=state),
                running=self._running() if state is State.RUNNING else None,
            )
            for state in states_between(known, self._reached)
        ]

    async def live(self, make_spec: MakeSpec, predecessors: Sequence[ManagedContainer]) -> None:
        """Launch the container and stay with it to the end.

        Args:
            make_spec: Blocking; what to run, and the record with what follows from that.
            predecessors: Containers with the same devices, which must be gone first.
        """
        await self._save()
        failure = await first_ended(self._launch(make_spec, predecessors), self._wait_stopped())
        if failure is None:
            failure = await self._follow()
        else:
            await self._clean_up()
        await self._finish(failure)

    async def resume(self) -> None:
        """Take up the life of a container that another agent process started."""
        if self.state is State.TERMINATED:
            self.ended.set()
            if self._owned is not None and self._owned.state is not ContainerState.CREATED:
                await self._follow()  # the master may not have read all of its output
            await self._finish(self._record.failure)
            return
        if self._owned is None or self._owned.state is ContainerState.CREATED:
            had_run = self.state is State.RUNNING
            await self._clean_up()
            await self._finish(GONE_AFTER_RESTART if had_run else LAUNCH_CUT_OFF)
            return
        for state in states_between(self.state, State.RUNNING):
            await self._advance(state)
        await self._finish(await self._follow())

    async def crash(self) -> None:
        """End the container after a fault of this code, so that its devices become free."""
        await self._clean_up()
        failure = Failure(
            type=FailureType.AGENT_ERROR,
            message="internal error of the agent; its log says more",
        )
        await self._finish(failure)

    async def save_if_dirty(self) -> None:
        """Write the record if the master has read more since."""
        if self._is_dirty:
            await self._save()

    # the launch

    async def _launch(
        self, make_spec: MakeSpec, predecessors: Sequence[ManagedContainer]
    ) -> Failure | None:
        runtime = self._around.runtime
        step = "reading the order"
        try:
            spec, record = await asyncio.to_thread(make_spec)
            self._record = replace(record, container=self._record.container)
            step = "waiting for devices"
            await self._wait_devices(predecessors)
            await self._advance(State.PULLING)
            step = "pulling container image"
            await self._pull(spec)
            await self._advance(State.STARTING)
            step = "creating container"
            self._handle = await runtime.create(spec, self._note_event)
            step = "starting container"
            started = await runtime.start(self._handle)
            self._addresses = started.addresses
            await self._advance(State.RUNNING)
        except AgentError as error:
            log.warning("launch failed: %s: %s", step, error)
            return failure_of_launch(error, step)
        except OSError as error:  # a full disk, say: the node's fault, and not the task's
            log.warning("launch failed: %s: %s", step, error)
            return Failure(type=FailureType.AGENT_ERROR, message=f"{step}: {error}")
        return None

    async def _wait_stopped(self) -> Failure:
        await self._launch_stopped.wait()
        return self._stop_reason

    async def _wait_devices(self, predecessors: Sequence[ManagedContainer]) -> None:
        for other in predecessors:
            try:
                async with asyncio.timeout(self._around.limits.devices_s):
                    await other.ended.wait()
            except TimeoutError as error:
                raise StartRefused(
                    f"container {other.id} still has the same devices and does not end"
                ) from error

    async def _pull(self, spec: ContainerSpec) -> None:
        began = False

        def note(event: Event) -> None:
            nonlocal began
            if event.kind is EventKind.PULL_BEGAN and not began:
                began = True
                self._tell_pull(ended=False)
            self._note_event(event)

        try:
            await self._around.runtime.pull(spec, note)
        finally:
            if began:
                self._tell_pull(ended=True)

    def _tell_pull(self, *, ended: bool) -> None:
        self._around.reports.pull(
            self.id,
            allocation_id=self._record.allocation_id,
            task_type=self._record.task_type,
            ended=ended,
        )

    def _note_event(self, event: Event) -> None:
        level: Level = "WARNING" if event.kind is EventKind.WARNING else "INFO"
        self._around.reports.note(self.id, event.text, level)

    async def _clean_up(self) -> None:
        """Remove whatever a launch that came to nothing left in the runtime."""
        await remove_all_of(self._around.runtime, self.id, self._around.limits)

    # while it runs

    async def _follow(self) -> Failure | None:
        """Stay with the running container; returns how it failed."""
        follower = Follower(
            self._around,
            self._require_handle(),
            self._wishes,
            record=self.current_record(),
            on_delivered=self._note_delivered,
        )
        return await follower.run(on_ended=self.ended.set)

    # the end

    async def _finish(self, failure: Failure | None) -> None:
        """Tell the end; then stay until the master has read it, and remove the container."""
        self.ended.set()
        if self.state is not State.TERMINATED:
            by_agent = self._record.ended_by_agent and self.state is State.RUNNING
            if by_agent and failure is not None:
                failure = failure_of_stop(failure)
            state = transition(self.state, State.TERMINATED)
            container = replace(self._record.container, state=state)
            self._record = replace(self._record, container=container, failure=failure)
            await self._save()
        if not self._wishes.unwanted.is_set():
            self._around.reports.state(
                self._record.container, failure=failure, on_read=self._acknowledged.set
            )
        await self._acknowledged.wait()
        if self._handle is not None and not self._around.keeps_ended:
            await remove_ended(self._around.runtime, self._handle, self._around.limits)
        await self._forget()

    # bookkeeping

    async def _advance(self, state: State) -> None:
        """Go to *state*, on disk first."""
        container = replace(self._record.container, state=transition(self.state, state))
        self._record = replace(self._record, container=container)
        await self._save()
        self._reached = state  # told from here on, by this or by whatever connection comes next
        if not self._wishes.unwanted.is_set():
            self._around.reports.state(
                container, running=self._running() if state is State.RUNNING else None
            )
        log.info("container is %s", state.lower())

    def _running(self) -> Running:
        shares_host = bool(self._addresses) and not any(a.container_ip for a in self._addresses)
        return Running(
            native_id=self._require_handle().native_id,
            network_mode="host" if shares_host else self._record.network_mode,
            ports=self._record.ports,
            addresses=self._addresses,
        )

    def _note_delivered(self, stream: Stream, end: int) -> None:
        self._delivered[stream] = end
        self._is_dirty = True

    async def _save(self) -> None:
        """Write the record, or have it tried again; a full disk must not end a task."""
        async with self._save_lock:
            if self._is_forgotten:
                return
            self._is_dirty = False
            self._record = self.current_record()
            try:
                await uncut(asyncio.to_thread(self._around.records.save, self._record))
            except OSError as error:
                self._is_dirty = True
                if not self._is_unwritten:
                    log.error("record of the container not written, trying again: %s", error)
                self._is_unwritten = True
            else:
                if self._is_unwritten:
                    log.info("record of the container written again")
                self._is_unwritten = False

    async def _forget(self) -> None:
        async with self._save_lock:
            self._is_forgotten = True
            try:
                await asyncio.to_thread(self._around.records.delete, self.id)
            except OSError as error:
                log.error("record of the container not deleted: %s", error)

    def _require_handle(self) -> ContainerHandle:
        assert self._handle is not None
        return self._handle
