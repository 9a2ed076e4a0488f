"""The life of one container, from the order to the master's knowledge of its end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from shipway_agent.containers.ends import (
    GONE_AFTER_RESTART,
    KILLED_BEFORE_RUN,
    LAUNCH_CUT_OFF,
    failure_of_exit,
    failure_of_launch,
    failure_of_loss,
)
from shipway_agent.containers.records import Record, RecordStore
from shipway_agent.containers.reports import Reports
from shipway_agent.containers.state import State, states_between, transition
from shipway_agent.errors import AgentError, ContainerNotFound, ContainerRuntimeError, StartRefused
from shipway_agent.logs.forward import OutputForwarder
from shipway_agent.logs.lines import Line
from shipway_agent.master.messages import Failure, FailureType, Level, Running, StateChanged
from shipway_agent.runtimes.spec import (
    ID_LABEL,
    Address,
    ContainerHandle,
    ContainerId,
    ContainerSpec,
    ContainerState,
    Event,
    EventKind,
    Exit,
    Owned,
    Runtime,
    Stream,
)
from shipway_agent.tasks import first_ended
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

STOCK_SHIPPER = "ship-logs.sh"
"""Posts a task's output to the master by itself; the agent must not bring it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience with runtimes, in seconds."""

    drain_s: float = 15
    """How long the output of an ended container may bring nothing before it is left."""
    devices_s: float = 60
    """How long a container waits for the one that had its devices to be gone."""
    first_retry_s: float = 0.5
    longest_retry_s: float = 15
    clean_up_tries: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all containers of an agent share."""

    runtime: Runtime
    reports: Reports
    records: RecordStore
    limits: Limits
    keeps_ended: bool = False
    """Leave ended containers in the runtime, for people to look at."""


MakeSpec = Callable[[], tuple[ContainerSpec, Record]]


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
        self._is_forgotten = False
        self._owned = owned
        self._handle: ContainerHandle | None = None
        self._addresses: tuple[Address, ...] = ()
        if owned is not None:
            self._handle = owned.handle
            self._addresses = owned.addresses
            if owned.state is not ContainerState.CREATED and self.state is not State.TERMINATED:
                self._reached = self.state
        self._signals: asyncio.Queue[int] = asyncio.Queue()  # bounded by the master's patience
        self._launch_stopped = asyncio.Event()
        self._stop_reason = KILLED_BEFORE_RUN
        self._acknowledged = asyncio.Event()
        self._unwanted = asyncio.Event()
        self.spec: ContainerSpec | None = None
        """Without its archives; None for one that another agent process started."""
        self.ended = asyncio.Event()
        """Set when no process of the container is left."""

    @property
    def id(self) -> ContainerId:
        """The master's name for the container."""
        return self._record.container.id

    @property
    def record(self) -> Record:
        """What is known of it now."""
        return replace(self._record, delivered=dict(self._delivered))

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
        self._signals.put_nowait(number)
        if number == signal.SIGKILL:
            self._launch_stopped.set()

    def stop_launch(self, reason: Failure) -> None:
        """End the launch if the container does not run yet; *reason* is told to the master."""
        if not self._launch_stopped.is_set():
            self._stop_reason = reason
            self._launch_stopped.set()

    def disown(self) -> None:
        """Kill the container and tell nobody: the master knows nothing of it."""
        self._unwanted.set()
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
            self.spec = replace(spec, archives=())
            step = "starting container"
            started = await runtime.start(self._handle)
            self._addresses = started.addresses
            await self._advance(State.RUNNING)
        except AgentError as error:
            log.warning("launch failed: %s: %s", step, error)
            return failure_of_launch(error, step)
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
        runtime, limits = self._around.runtime, self._around.limits
        delays = backoff_delays_s(first_s=limits.first_retry_s, limit_s=limits.longest_retry_s)
        for _ in range(limits.clean_up_tries):
            try:
                for owned in await runtime.list_owned({ID_LABEL: self.id}):
                    await runtime.remove(owned.handle)
            except ContainerRuntimeError as error:
                log.warning("cannot remove what a launch left, trying again: %s", error)
                await asyncio.sleep(next(delays))
            else:
                return
        log.error("gave up removing what a launch left; the next start of the agent tries again")

    # while it runs

    async def _follow(self) -> Failure | None:
        """Stay with the running container; returns how it failed."""
        forwarder = self._make_forwarder()
        forwarding = asyncio.ensure_future(self._forward_wanted(forwarder))
        obeying = asyncio.ensure_future(self._send_signals())
        try:
            failure = await self._wait_end()
            self.ended.set()
            await self._drain(forwarder, forwarding)
        finally:
            forwarding.cancel()
            obeying.cancel()
            await asyncio.wait([forwarding, obeying])
        for task in (forwarding, obeying):
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("a part of the container's watch failed", exc_info=error)
        return failure

    async def _wait_end(self) -> Failure | None:
        """Wait for the exit; a runtime that cannot be asked is asked again."""
        delays, problem = self._delays(), ""
        while True:
            try:
                ended: Exit = await self._around.runtime.wait(self._require_handle())
            except ContainerNotFound as error:
                return failure_of_loss(error)
            except ContainerRuntimeError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("cannot ask whether the container runs, going on: %s", problem)
                await asyncio.sleep(next(delays))
            else:
                log.info("container ended", extra={"exit_code": ended.code})
                return failure_of_exit(ended)

    async def _send_signals(self) -> None:
        runtime, handle = self._around.runtime, self._require_handle()
        while True:
            number = await self._signals.get()
            delays = self._delays()
            while True:
                try:
                    if number == signal.SIGKILL:
                        await runtime.kill(handle)
                    else:
                        await runtime.signal(handle, number)
                except ContainerNotFound:
                    return
                except ContainerRuntimeError as error:
                    log.warning("signal not delivered: %s", error, extra={"signal": number})
                    if not error.retryable:
                        break
                    await asyncio.sleep(next(delays))
                else:
                    break

    def _make_forwarder(self) -> OutputForwarder:
        handle = self._require_handle()
        return OutputForwarder(
            lambda: self._around.runtime.output(handle),
            _Sink(self.id, self._around.reports),
            delivered=self._delivered,
            on_delivered=self._note_delivered,
        )

    async def _forward_wanted(self, forwarder: OutputForwarder) -> None:
        if self._record.ships_output:
            await first_ended(self._forward(forwarder), self._wait_unwanted())

    async def _wait_unwanted(self) -> None:
        await self._unwanted.wait()

    async def _forward(self, forwarder: OutputForwarder) -> None:
        delays, problem = self._delays(), ""
        while True:
            try:
                await forwarder.run()
            except ContainerNotFound:
                return
            except ContainerRuntimeError as error:
                if str(error) != problem:
                    problem = str(error)
                    log.warning("cannot read the container's output, trying again: %s", problem)
                await asyncio.sleep(next(delays))
            else:
                return

    async def _drain(self, forwarder: OutputForwarder, forwarding: asyncio.Future[None]) -> None:
        """Wait for the last output; not longer than something comes or the master is slow."""
        limit_s = self._around.limits.drain_s
        while True:
            seen = forwarder.chunks_read
            done, _ = await asyncio.wait([forwarding], timeout=limit_s)
            if done:
                return
            if forwarder.chunks_read == seen and not forwarder.is_blocked:
                break
        text = f"the last output may be missing: it did not end within {limit_s:g} s of the task"
        log.warning(text)
        self._around.reports.note(self.id, text, "WARNING")

    # the end

    async def _finish(self, failure: Failure | None) -> None:
        """Tell the end; then stay until the master has read it, and remove the container."""
        self.ended.set()
        if self.state is not State.TERMINATED:
            state = transition(self.state, State.TERMINATED)
            container = replace(self._record.container, state=state)
            self._record = replace(self._record, container=container, failure=failure)
            await self._save()
        if not self._unwanted.is_set():
            self._around.reports.state(
                self._record.container, failure=failure, on_read=self._acknowledged.set
            )
        await self._acknowledged.wait()
        if self._handle is not None and not self._around.keeps_ended:
            await self._remove(self._handle)
        await self._forget()

    async def _remove(self, handle: ContainerHandle) -> None:
        delays = self._delays()
        for _ in range(self._around.limits.clean_up_tries):
            try:
                await self._around.runtime.remove(handle)
            except ContainerRuntimeError as error:
                log.warning("ended container not removed, trying again: %s", error)
                await asyncio.sleep(next(delays))
            else:
                return
        log.error("gave up removing an ended container; the next start of the agent tries again")

    # bookkeeping

    async def _advance(self, state: State) -> None:
        """Go to *state*, on disk first."""
        container = replace(self._record.container, state=transition(self.state, state))
        self._record = replace(self._record, container=container)
        self._reached = state
        await self._save()
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
        """Write the record. A full disk must not end a task: without it, output may come twice."""
        async with self._save_lock:
            if self._is_forgotten:
                return
            self._is_dirty = False
            try:
                await asyncio.to_thread(self._around.records.save, self.record)
            except OSError as error:
                log.error("record of the container not written: %s", error)

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

    def _delays(self) -> Iterator[float]:
        limits = self._around.limits
        return backoff_delays_s(first_s=limits.first_retry_s, limit_s=limits.longest_retry_s)


class _Sink:
    """Where the output of one container goes."""

    def __init__(self, container_id: ContainerId, reports: Reports) -> None:
        self._container_id = container_id
        self._reports = reports

    @property
    def has_room(self) -> bool:
        return self._reports.has_room

    async def wait_room(self) -> None:
        await self._reports.wait_room()

    def take(self, line: Line, on_read: Callable[[], None]) -> None:
        self._reports.output(self._container_id, line, on_read)
