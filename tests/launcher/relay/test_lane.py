"""The queue on disk, when files are torn, damaged or cannot grow."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shipway_launcher.relay.errors import SpoolFailed
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.lane import Batch, Lane, LaneLimits

LIMITS = LaneLimits(total_bytes=1 << 20, segment_bytes=4096, keeps_delivered=False)


def make_message(number: int, size: int = 10) -> Message:
    return Message(rpc="PostTaskLogs", request=f"{number}:".encode() + b"x" * size, lines=1)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("logs-*.journal"))


def is_noted(folder: Path) -> bool:
    """Whether the lane wrote down that something was delivered."""
    state = folder / "logs.state"
    return state.exists() and state.stat().st_size > 0


class Reader:
    """Takes what a lane delivers; `limit` batches at most, then it holds on to the next."""

    def __init__(self, limit: int | None = None) -> None:
        self.messages: list[Message] = []
        self.gaps: list[int] = []
        self._left = limit

    @property
    def numbers(self) -> list[int]:
        return [int(message.request.partition(b":")[0]) for message in self.messages]

    async def deliver(self, batch: Batch) -> bool:
        if self._left == 0:
            await asyncio.Event().wait()
        if self._left is not None:
            self._left -= 1
        self.messages += batch.messages
        self.gaps.append(batch.gap_lines)
        return False


@contextlib.asynccontextmanager
async def running(
    folder: Path, reader: Reader | None = None, limits: LaneLimits = LIMITS
) -> AsyncIterator[Lane]:
    """A lane that writes, and delivers if there is a reader; ends like a killed process."""
    lane = Lane(folder, "logs", limits)
    lane.load()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lane.run_writer())]
        if reader is not None:
            tasks.append(group.create_task(lane.run_delivery(reader.deliver)))
        await asyncio.sleep(0)
        yield lane
        for task in tasks:
            task.cancel()


async def read_all(folder: Path, count: int) -> Reader:
    reader = Reader()
    async with running(folder, reader), asyncio.timeout(60):
        while len(reader.messages) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)  # would more come?
    return reader


async def test_what_was_delivered_before_a_kill_does_not_come_again(tmp_path: Path) -> None:
    first = Reader(limit=1)
    async with running(tmp_path, first) as lane:
        await lane.put(make_message(0))
        await lane.put(make_message(1))
        async with asyncio.timeout(60):
            while not is_noted(tmp_path):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    second = await read_all(tmp_path, 2 - len(first.messages))
    assert first.numbers + second.numbers == [0, 1]


async def test_a_record_that_was_never_written_is_none(tmp_path: Path) -> None:
    async with running(tmp_path) as lane:
        await lane.put(make_message(0))
    (
        tmp_path / "logs.state"
    ).touch()  # a kill came between the making of the file and its first record
    assert (await read_all(tmp_path, 1)).numbers == [0]


async def test_messages_cross_files_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as lane:
        for number in range(100):
            await lane.put(make_message(number, size=1000))
        assert len(files(tmp_path)) > 5
    assert (await read_all(tmp_path, 100)).numbers == list(range(100))
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("cut", [1, 12, 13, 30])
async def test_a_message_that_was_half_written_is_cut_off(tmp_path: Path, cut: int) -> None:
    async with running(tmp_path) as lane:
        await lane.put(make_message(0))
        await lane.put(make_message(1))
    [file] = files(tmp_path)
    written = file.read_bytes().rstrip(b"\0")
    file.write_bytes(written[:-cut] + bytes(cut))
    async with running(tmp_path) as lane:
        await lane.put(make_message(2))
    assert (await read_all(tmp_path, 2)).numbers == [0, 2]


async def test_a_damaged_message_costs_what_follows_in_its_file_only(tmp_path: Path) -> None:
    async with running(tmp_path) as lane:
        for number in range(10):
            await lane.put(make_message(number, size=1000))
    file = files(tmp_path)[0]
    data = bytearray(file.read_bytes())
    data[1500] ^= 1  # in the second message of the first file
    file.write_bytes(data)
    numbers = (await read_all(tmp_path, 6)).numbers
    assert numbers == [0, *range(10 - len(numbers) + 1, 10)]
    assert len(numbers) > 5


async def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "logs-00000001.journal").write_bytes(b"shipway relay 9\n")
    with pytest.raises(ValueError, match="logs-00000001"):
        Lane(tmp_path, "logs", LIMITS).load()


@contextlib.contextmanager
def no_file_may_exceed(size: int) -> Iterator[None]:
    """Let the system refuse to let files grow, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_told_and_heals(tmp_path: Path) -> None:
    async with running(tmp_path) as lane:
        await lane.put(make_message(0, size=500))
        with no_file_may_exceed(1000):
            with pytest.raises(SpoolFailed, match="File too large"):
                await lane.put(make_message(1, size=900))
            await lane.put(make_message(2, size=5))
        await lane.put(make_message(3, size=900))
    assert (await read_all(tmp_path, 3)).numbers == [0, 2, 3]


async def test_dropped_lines_are_counted_before_what_follows(tmp_path: Path) -> None:
    limits = LaneLimits(total_bytes=10_000, segment_bytes=2000, keeps_delivered=False)
    async with running(tmp_path, limits=limits) as lane:
        for number in range(40):
            await lane.put(make_message(number, size=900))
        kept = lane.backlog_bytes
    assert kept <= 10_000
    reader = await read_all(tmp_path, 8)
    assert reader.gaps[0] == reader.numbers[0] > 0
    assert reader.numbers == list(range(reader.numbers[0], 40))
    assert not any(reader.gaps[1:])


async def test_lines_dropped_while_they_were_delivered_are_no_gap(tmp_path: Path) -> None:
    limits = LaneLimits(total_bytes=6000, segment_bytes=2000, keeps_delivered=False)
    go_on, began = asyncio.Event(), asyncio.Event()
    reader = Reader()

    async def deliver(batch: Batch) -> bool:
        began.set()
        await go_on.wait()
        return await reader.deliver(batch)

    lane = Lane(tmp_path, "logs", limits)
    lane.load()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(lane.run_writer())]
        await asyncio.sleep(0)
        await lane.put(make_message(0, size=900))
        await lane.put(make_message(1, size=900))
        await lane.put(make_message(2, size=900))
        tasks.append(group.create_task(lane.run_delivery(deliver)))
        await began.wait()
        for number in range(3, 20):
            await lane.put(make_message(number, size=900))
        go_on.set()
        async with asyncio.timeout(60):
            while lane.backlog_lines:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
    assert len(reader.numbers) + sum(reader.gaps) == 20
    assert reader.numbers[-1] == 19


async def test_a_refused_writer_fails_those_who_wait(tmp_path: Path) -> None:
    async with running(tmp_path) as lane:
        pass
    with pytest.raises(SpoolFailed, match="stopping"):
        await lane.put(make_message(0))


async def test_what_a_caller_handed_over_is_kept_though_he_leaves(tmp_path: Path) -> None:
    reader = Reader()
    async with running(tmp_path, reader) as lane, asyncio.timeout(60):
        caller = asyncio.ensure_future(lane.put(make_message(1)))
        await asyncio.sleep(0)  # it is in the writer's hands
        caller.cancel()
        await lane.settle()
        await lane.put(make_message(2))
        await lane.wait_empty()
    assert reader.numbers == [1, 2]
