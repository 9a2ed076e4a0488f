"""Reading what a shim has put down of a task's output, and giving up what was delivered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from pathlib import Path
from typing import IO

from shipway_agent.runtimes.chunks import STDERR, STDOUT, Frame, merge_frames
from shipway_agent.runtimes.foldernews import FolderNews
from shipway_agent.runtimes.processes import ProcessIdentity
from shipway_agent.runtimes.shimfiles import (
    FRAME_HEADER,
    UNREAD,
    list_segments,
    read_segment_header,
    segment_path,
    split_frames,
)
from shipway_agent.runtimes.shimstore import state_of
from shipway_agent.runtimes.spec import Chunk, ContainerHandle, ContainerState, Stream

_READ_BYTES = 1 << 20
_INTERVAL_S, _LONG_INTERVAL_S, _DEAF_INTERVAL_S = 5.0, 60.0, 0.1
"""How often to look without news, in case that it got lost: while the end of the shim would not be
heard of, when it would, and where nothing ever is."""


class KeptOutput:
    """The output of one runtime's containers, as `KeepsOutput` has it."""

    def __init__(self, folder_of: Callable[[str], Path]) -> None:
        """Use the shims' folders that *folder_of* names by container id."""
        self._folder_of = folder_of
        self._news = FolderNews()

    def read(
        self, handle: ContainerHandle, offsets: Mapping[Stream, int] | None = None
    ) -> AsyncIterator[Chunk]:
        """Yield the output, or what comes after *offsets*."""
        return read_output(self._folder_of(handle.container_id), self._news, offsets=offsets)

    async def first(self, handle: ContainerHandle) -> Mapping[Stream, int]:
        """Say where the output begins; see `KeepsOutput.first_kept`."""
        return await asyncio.to_thread(first_kept, self._folder_of(handle.container_id))

    async def release(self, handle: ContainerHandle, offsets: Mapping[Stream, int]) -> None:
        """Give up delivered output; see `KeepsOutput.release_output`."""
        await asyncio.to_thread(release_output, self._folder_of(handle.container_id), offsets)

    async def discard(self, handle: ContainerHandle) -> None:
        """Give up all output; see `KeepsOutput.discard_output`."""
        await asyncio.to_thread(discard_output, self._folder_of(handle.container_id))

    def close(self) -> None:
        """Let go."""
        self._news.close()


async def read_output(
    folder: Path, news: FolderNews, *, offsets: Mapping[Stream, int] | None = None
) -> AsyncIterator[Chunk]:
    """Yield the output until the container has ended.

    Args:
        folder: The shim's.
        news: Tells when there is more.
        offsets: How much of each stream to leave out.
    """
    reader = _Reader(folder, offsets or {})
    with contextlib.ExitStack() as stack:
        stack.callback(reader.close)
        event = stack.enter_context(news.of(folder))
        interval_s = _INTERVAL_S if event.hears else _DEAF_INTERVAL_S
        is_over = is_shim_known = False
        while True:
            event.clear()
            frames = await asyncio.to_thread(reader.read)
            for chunk in merge_frames(frames):
                yield chunk
            if frames or reader.is_behind:
                continue
            if is_over:
                break
            # In this order: what was written before the end is there after the end was seen.
            is_over, shim = await asyncio.to_thread(_look, folder)
            if is_over:
                continue
            if shim is not None and not is_shim_known:
                is_shim_known = True
                if stack.enter_context(_told_of_end(shim, event)) and event.hears:
                    interval_s = _LONG_INTERVAL_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await event.wait()
        for chunk in merge_frames(await asyncio.to_thread(reader.rest)):
            yield chunk


@contextlib.contextmanager
def _told_of_end(process: ProcessIdentity, event: asyncio.Event) -> Generator[bool]:
    """Have *event* set when a process ends, which is no news in its folder if it was killed.

    Gives whether the kernel can tell (not before 5.3).
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        yield False
        return
    loop = asyncio.get_running_loop()

    def tell() -> None:
        loop.remove_reader(descriptor)  # it would tell again and again
        event.set()

    try:
        loop.add_reader(descriptor, tell)
        if not process.is_alive:  # the pid may be another process's by now
            event.set()
        yield True
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def first_kept(folder: Path) -> dict[Stream, int]:
    """Return the offset in each stream of the first byte that is still there; blocking."""
    with contextlib.suppress(FileNotFoundError):
        for segment in list_segments(folder):
            with segment.path.open("rb") as stream:
                if begins := read_segment_header(stream):
                    return {_NAMES[number]: begin for number, begin in begins.items()}
            break
    return dict.fromkeys(_NAMES.values(), 0)


def release_output(folder: Path, offsets: Mapping[Stream, int]) -> None:
    """Remove the files of which nothing is left beyond *offsets*; blocking."""
    with contextlib.suppress(FileNotFoundError):  # the container was removed
        segments = list_segments(folder)
        for segment, following in itertools.pairwise(segments):
            with following.path.open("rb") as stream:
                begins = read_segment_header(stream)
            if begins is None or any(
                offsets.get(_NAMES[number], 0) < begin for number, begin in begins.items()
            ):
                break
            segment.path.unlink(missing_ok=True)


def discard_output(folder: Path) -> None:
    """Note that nobody will read the output, so that the task never waits for it; blocking."""
    with contextlib.suppress(FileNotFoundError):
        (folder / UNREAD).touch(mode=0o600)


_NAMES: Mapping[int, Stream] = {STDOUT: "stdout", STDERR: "stderr"}


class _Reader:
    """Reads the frames of one folder from its first file that is needed; blocking."""

    def __init__(self, folder: Path, offsets: Mapping[Stream, int]) -> None:
        self._folder = folder
        self._skipped = {number: offsets.get(name, 0) for number, name in _NAMES.items()}
        self._stream: IO[bytes] | None = None
        self._number = -1
        self._offset = 0
        """Of the first frame that was not whole yet; the shim may take back a part of one."""
        self.is_behind = False
        """Whether `read` is to be called again at once, although it gave nothing."""

    def read(self) -> list[Frame]:
        """Return what has come since the last call."""
        self.is_behind = False
        if self._stream is None and not self._open_first():
            return []
        assert self._stream is not None
        has_more = segment_path(self._folder, self._number + 1).exists()
        data = os.pread(self._stream.fileno(), _READ_BYTES, self._offset)
        frames, rest = split_frames(data)
        if frames:
            self._offset += len(data) - len(rest)
            self.is_behind = True
            return [frame for frame in map(self._skip, frames) if frame[1]]
        if has_more:  # it was there before we read, so this file is complete
            self.is_behind = self._open(self._number + 1, is_first=False)
        return []

    def rest(self) -> list[Frame]:
        """Return the beginning of a frame whose shim was killed while it wrote."""
        if self._stream is None:
            return []
        rest = os.pread(self._stream.fileno(), _READ_BYTES, self._offset)
        if len(rest) <= FRAME_HEADER.size:
            return []
        frame = self._skip((rest[0], rest[FRAME_HEADER.size :]))
        return [frame] if frame[1] else []

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not None:
            self._stream.close()

    def _open_first(self) -> bool:
        """Open the last file that begins no later than what is wanted, else the first of all."""
        try:
            segments = list_segments(self._folder)
        except FileNotFoundError:
            return False
        chosen = segments[0].number if segments else None
        for segment in segments[1:]:
            with contextlib.suppress(FileNotFoundError), segment.path.open("rb") as stream:
                begins = read_segment_header(stream)
                if begins is None or any(
                    begin > self._skipped[number] for number, begin in begins.items()
                ):
                    break
                chosen = segment.number
        return chosen is not None and self._open(chosen, is_first=True)

    def _open(self, number: int, *, is_first: bool) -> bool:
        try:
            stream = segment_path(self._folder, number).open("rb", buffering=0)
        except FileNotFoundError:  # released, or removed with its container
            return False
        begins = read_segment_header(stream)
        if begins is None:
            stream.close()
            return False
        if is_first:
            self._skipped = {n: max(0, self._skipped[n] - begin) for n, begin in begins.items()}
        self.close()
        self._stream, self._number, self._offset = stream, number, stream.tell()
        return True

    def _skip(self, frame: Frame) -> Frame:
        number, data = frame
        left_out = min(self._skipped.get(number, 0), len(data))
        if not left_out:
            return frame
        self._skipped[number] -= left_out
        return number, data[left_out:]


def _look(folder: Path) -> tuple[bool, ProcessIdentity | None]:
    """Say whether the container is over, and which process holds it; blocking."""
    if not folder.exists():
        return True, None
    state, started, _ = state_of(folder)
    return state is ContainerState.EXITED, None if started is None else started.shim
