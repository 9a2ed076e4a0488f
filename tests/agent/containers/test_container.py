"""One container's life under runtimes that fail, hang and come back."""

from __future__ import annotations

import asyncio
import errno
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from shipway_agent.containers.container import ManagedContainer
from shipway_agent.containers.ends import AGENT_STOPPED
from shipway_agent.containers.records import Record, RecordStore
from shipway_agent.containers.reports import Reports
from shipway_agent.containers.state import State
from shipway_agent.containers.surroundings import Limits, Surroundings
from shipway_agent.errors import (
    ContainerNotFound,
    ContainerRuntimeError,
    ImageNotFound,
    LaunchRefused,
    RuntimeRefused,
    RuntimeUnavailable,
)
from shipway_agent.master.messages import (
    AgentMessage,
    Container,
    ContainerLog,
    Failure,
    FailureType,
    PullStats,
    StateChanged,
)
from shipway_agent.master.outbox import Outbox
from shipway_agent.runtimes.spec import (
    Chunk,
    ContainerId,
    ContainerSpec,
    ContainerState,
    Event,
    EventKind,
)
from tests.agent.containers.scripted import ScriptedRuntime

ID = ContainerId("a-1")
LIMITS = Limits(drain_s=30, devices_s=30, first_retry_s=0.01, longest_retry_s=0.01)
SHORT = replace(LIMITS, drain_s=0.2, devices_s=0.2)


class Life:
    """A container and everything around it; the master reads at once unless told otherwise."""

    def __init__(self, folder: Path, runtime: ScriptedRuntime) -> None:
        self.runtime = runtime
        self.outbox = Outbox(room_bytes=2000)
        self.records = RecordStore(folder)
        self.records.open()
        self.messages: list[AgentMessage] = []
        self.master_reads = asyncio.Event()
        self.master_reads.set()
        record = Record(
            agent_id="node",
            cluster_id="c",
            runtime="scripted",
            container=Container(id=ID, state=State.ASSIGNED, devices=()),
            delivered={},
        )
        self.container = self.make(record)
        self._record = record

    def make(
        self, record: Record, *, limits: Limits = LIMITS, keeps_ended: bool = False
    ) -> ManagedContainer:
        around = Surroundings(
            runtime=self.runtime,
            reports=Reports(self.outbox, "node"),
            records=self.records,
            limits=limits,
            keeps_ended=keeps_ended,
        )
        return ManagedContainer(record, around)

    def make_spec(self) -> tuple[ContainerSpec, Record]:
        return ContainerSpec(id=ID, image=None, argv=("true",)), self._record

    async def read(self) -> None:
        while True:
            await self.master_reads.wait()
            entry = await self.outbox.take()
            await self.master_reads.wait()
            self.messages.append(entry.message)
            self.outbox.confirm(entry.number)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():  # noqa: ASYNC110 (many kinds of things are waited for)
                await asyncio.sleep(0.005)

    def states(self) -> list[str]:
        return [str(one.container.state) for one in self.messages if isinstance(one, StateChanged)]

    def failure(self) -> Failure | None:
        return next(
            one.failure
            for one in self.messages
            if isinstance(one, StateChanged) and one.container.state is State.TERMINATED
        )

    def lines(self) -> list[str]:
        logs = [one for one in self.messages if isinstance(one, ContainerLog)]
        return [one.text for one in logs if one.output]

    def notes(self) -> list[str]:
        logs = [one for one in self.messages if isinstance(one, ContainerLog)]
        return [one.text for one in logs if not one.output]


@pytest.fixture
async def runtime() -> ScriptedRuntime:
    return ScriptedRuntime()


@pytest.fixture
async def life(tmp_path: Path, runtime: ScriptedRuntime) -> AsyncIterator[Life]:
    life = Life(tmp_path / "records", runtime)
    reading = asyncio.ensure_future(life.read())
    yield life
    reading.cancel()
    await asyncio.wait([reading])


@asynccontextmanager
async def living(life: Life, *others: ManagedContainer) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(life.container.live(life.make_spec, others))
    yield task
    async with asyncio.timeout(60):
        await task


def out(text: str) -> Chunk:
    return Chunk(stream="stdout", data=text.encode())


async def test_nothing_is_left_of_a_container_whose_end_was_read(
    life: Life, runtime: ScriptedRuntime
) -> None:
    async with living(life):
        runtime.end(0)
    assert life.states() == ["PULLING", "STARTING", "RUNNING", "TERMINATED"]
    assert life.failure() is None
    assert runtime.state is None
    assert life.records.load_all("node") == {}


async def test_the_container_stays_until_the_master_has_read_its_end(
    life: Life, runtime: ScriptedRuntime
) -> None:
    async with living(life):
        await life.until(lambda: life.container.state is State.RUNNING)
        life.master_reads.clear()
        runtime.end(3)
        await life.until(lambda: life.container.state is State.TERMINATED)
        await asyncio.sleep(0.05)
        assert "remove" not in runtime.calls
        assert life.records.load_all("node")[ID].failure is not None
        life.master_reads.set()
    assert runtime.calls.count("remove") == 1


@pytest.mark.parametrize("step", ["pull", "create", "start"])
async def test_a_kill_during_the_launch_leaves_nothing(
    life: Life, runtime: ScriptedRuntime, step: str
) -> None:
    runtime.holds[step] = asyncio.Event()
    async with living(life):
        await life.until(lambda: step in runtime.calls)
        life.container.signal(signal.SIGKILL)
    assert "RUNNING" not in life.states()
    failure = life.failure()
    assert failure is not None
    assert (failure.type, failure.message) == (FailureType.CONTAINER_ABORTED, "killed before run")
    assert runtime.state is None


async def test_what_a_launch_left_is_removed_when_the_runtime_answers_again(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.errors["start"] = [RuntimeUnavailable("no socket")]
    runtime.errors["list_owned"] = [RuntimeUnavailable("no socket"), OSError(errno.EIO, "bad disk")]
    async with living(life):
        pass
    assert runtime.state is None
    failure = life.failure()
    assert failure is not None
    assert failure.type is FailureType.AGENT_ERROR


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ("pull", ImageNotFound("no such image: x"), "pulling container image: no such image: x"),
        ("create", RuntimeRefused("no space"), "creating container: no space"),
        ("start", LaunchRefused("no program"), "starting container: no program"),
    ],
)
async def test_a_launch_that_fails_says_where_and_why(
    life: Life, runtime: ScriptedRuntime, step: str, error: ContainerRuntimeError, message: str
) -> None:
    runtime.errors[step] = [error]
    async with living(life):
        pass
    assert life.failure() == Failure(type=FailureType.TASK_ERROR, message=message)


async def test_signals_before_the_start_are_delivered_after_it(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.holds["start"] = asyncio.Event()
    async with living(life):
        await life.until(lambda: "start" in runtime.calls)
        life.container.signal(signal.SIGUSR1)
        runtime.holds["start"].set()
        await life.until(lambda: runtime.signals == [signal.SIGUSR1])
        runtime.end(0)


async def test_a_kill_that_fails_is_tried_again_and_ends_nothing_by_itself(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.errors["kill"] = [
        RuntimeUnavailable("busy"),
        RuntimeRefused("still there"),
        OSError(errno.EIO, "bad disk"),
    ]
    async with living(life):
        await life.until(lambda: "RUNNING" in life.states())
        life.container.signal(signal.SIGKILL)
    assert runtime.calls.count("kill") == 4
    failure = life.failure()
    assert failure is not None
    assert failure.exit_code == 137


async def test_a_runtime_that_cannot_be_asked_ends_no_container(
    life: Life, runtime: ScriptedRuntime
) -> None:
    many_files = OSError(errno.EMFILE, "too many open files")
    runtime.errors["wait"] = [RuntimeUnavailable("restarting"), RuntimeRefused("500"), many_files]
    async with living(life):
        await life.until(lambda: runtime.calls.count("wait") == 4)
        assert not life.container.ended.is_set()
        runtime.end(4)
    failure = life.failure()
    assert failure is not None
    assert failure.exit_code == 4


async def test_a_container_that_vanished_is_no_success(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.errors["wait"] = [ContainerNotFound("no such container")]
    runtime.end(0)
    async with living(life):
        pass
    failure = life.failure()
    assert failure is not None
    assert failure.type is FailureType.TASK_ERROR
    assert failure.exit_code is None


async def test_output_that_broke_off_goes_on_where_it_was(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.written = [out(f"line {number}\npart ") for number in range(6)]
    runtime.breaks_output_after = [2, 4]
    async with living(life):
        await life.until(lambda: len(life.lines()) >= 6)
        runtime.end(0)
    expected = ["line 0", *(f"part line {number}" for number in range(1, 6)), "part "]
    assert life.lines() == expected


async def test_output_that_cannot_be_opened_is_tried_again(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.written = [out("line\n")]
    runtime.errors["output"] = [OSError(errno.EMFILE, "too many open files")]
    async with living(life):
        await life.until(lambda: life.lines() == ["line"])
        runtime.end(0)
    assert life.notes() == []


async def test_the_last_line_comes_before_the_end(life: Life, runtime: ScriptedRuntime) -> None:
    runtime.written = [out("last words")]
    runtime.end(1)
    async with living(life):
        pass
    kinds = [type(one).__name__ for one in life.messages]
    assert kinds.index("ContainerLog") < len(kinds) - 1
    assert isinstance(life.messages[-1], StateChanged)


async def test_output_that_does_not_end_is_left_with_a_mark(
    life: Life, runtime: ScriptedRuntime
) -> None:
    life.container = life.make(life.container.record, limits=SHORT)
    runtime.written = [out("something\n")]
    runtime.ends_output = False
    runtime.end(0)
    async with living(life):
        pass
    assert life.lines() == ["something"]
    assert "may be missing" in life.notes()[-1]


async def test_output_waits_for_the_master_however_long(
    life: Life, runtime: ScriptedRuntime
) -> None:
    life.container = life.make(life.container.record, limits=SHORT)
    runtime.written = [out(f"line {number}\n") for number in range(200)]
    life.master_reads.clear()
    runtime.end(0)
    async with living(life):
        await life.until(life.container.ended.is_set)
        await asyncio.sleep(3 * SHORT.drain_s)
        assert life.container.state is State.RUNNING
        life.master_reads.set()
    assert life.lines() == [f"line {number}" for number in range(200)]
    assert not life.notes()


async def test_pulls_are_timed_only_if_something_is_fetched(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.events = [
        Event(kind=EventKind.PULL_BEGAN, text="pulling"),
        Event(kind=EventKind.PULL_PROGRESS, text="half"),
    ]
    runtime.errors["pull"] = [ImageNotFound("gone")]
    async with living(life):
        pass
    stats = [one for one in life.messages if isinstance(one, PullStats)]
    assert [one.ended for one in stats] == [False, True]
    assert life.notes() == ["pulling", "half"]


async def test_a_pull_that_is_skipped_is_not_timed(life: Life, runtime: ScriptedRuntime) -> None:
    runtime.events = [Event(kind=EventKind.PULL_SKIPPED, text="here already")]
    runtime.end(0)
    async with living(life):
        pass
    assert not [one for one in life.messages if isinstance(one, PullStats)]


async def test_a_stop_of_the_agent_ends_a_launch_but_no_running_container(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.holds["pull"] = asyncio.Event()
    async with living(life):
        await life.until(lambda: "pull" in runtime.calls)
        life.container.stop_launch(AGENT_STOPPED)
    assert life.failure() == AGENT_STOPPED


async def test_letting_go_touches_nothing(life: Life, runtime: ScriptedRuntime) -> None:
    task = asyncio.ensure_future(life.container.live(life.make_spec, ()))
    await life.until(lambda: "RUNNING" in life.states())
    task.cancel()
    await asyncio.wait([task])
    assert runtime.state is ContainerState.RUNNING
    assert not {"kill", "remove", "signal"} & set(runtime.calls)
    assert life.records.load_all("node")[ID].container.state is State.RUNNING


async def test_a_container_waits_for_the_devices_of_another(
    life: Life, runtime: ScriptedRuntime
) -> None:
    other = life.make(replace(life.container.record, container=Container(id=ContainerId("b"))))
    async with living(life, other):
        await asyncio.sleep(0.02)
        assert runtime.calls == []
        other.ended.set()
        await life.until(lambda: "RUNNING" in life.states())
        runtime.end(0)


async def test_devices_that_do_not_become_free_refuse_the_start(life: Life) -> None:
    other = life.make(replace(life.container.record, container=Container(id=ContainerId("b"))))
    life.container = life.make(life.container.record, limits=SHORT)
    async with living(life, other):
        pass
    failure = life.failure()
    assert failure is not None
    assert failure.type is FailureType.AGENT_ERROR
    assert "container b still has the same devices" in failure.message


async def test_a_disk_that_is_full_ends_no_task(
    life: Life, runtime: ScriptedRuntime, tmp_path: Path
) -> None:
    (tmp_path / "records").rmdir()
    (tmp_path / "records").write_text("")
    runtime.end(0)
    async with living(life):
        pass
    assert life.states()[-1] == "TERMINATED"


async def test_a_record_is_written_when_the_disk_has_room_again(
    life: Life, runtime: ScriptedRuntime, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.written = [out("line\n")]
    async with living(life):
        await life.until(lambda: life.lines() == ["line"])
        await life.container.save_if_dirty()
        (tmp_path / "records").rename(tmp_path / "away")
        life.container.end(signal.SIGUSR1)  # changes what is to be written
        await life.container.save_if_dirty()
        await life.container.save_if_dirty()
        (tmp_path / "away").rename(tmp_path / "records")
        assert not life.records.load_all("node")[ID].ended_by_agent
        await life.container.save_if_dirty()
        assert life.records.load_all("node")[ID].ended_by_agent
        runtime.end(0)
    assert sum("not written" in one.message for one in caplog.records) == 1


class SlowRecords(RecordStore):
    """Takes its time to write that a container runs, until it is told to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.begun, self.goes_on = threading.Event(), threading.Event()
        self.written: list[State] = []

    def save(self, record: Record) -> None:
        if record.container.state is State.RUNNING:
            self.begun.set()
            self.goes_on.wait(60)
        super().save(record)
        self.written.append(record.container.state)


async def test_a_kill_while_a_record_is_written_leaves_the_last_one(
    life: Life, tmp_path: Path
) -> None:
    life.records = records = SlowRecords(tmp_path / "records")
    life.container = life.make(life.container.record)
    async with living(life):
        await life.until(records.begun.is_set)
        life.container.signal(signal.SIGKILL)
        await asyncio.sleep(0.05)  # in which another write would come first
        records.goes_on.set()
    assert records.written[-2:] == [State.RUNNING, State.TERMINATED]
    assert life.states()[-1] == "TERMINATED"
    assert life.records.load_all("node") == {}


async def test_an_ended_container_can_be_kept_for_people_to_look_at(
    life: Life, runtime: ScriptedRuntime
) -> None:
    life.container = life.make(life.container.record, keeps_ended=True)
    runtime.end(0)
    async with living(life):
        pass
    assert runtime.state is ContainerState.EXITED
    assert life.records.load_all("node") == {}


async def test_a_container_nobody_wants_is_killed_and_not_spoken_of(
    life: Life, runtime: ScriptedRuntime
) -> None:
    runtime.written = [out("line\n")]
    async with living(life):
        await life.until(lambda: life.lines() == ["line"])
        spoken = len(life.messages)
        life.container.disown()
    assert len(life.messages) == spoken
    assert runtime.state is None
