"""The output of Docker's containers, put together again as their programs wrote it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from enum import Enum, auto

from shipway_agent.runtimes.chunks import STDERR, STDOUT, Frame, merge_frames
from shipway_agent.runtimes.engine import Engine, read_frames
from shipway_agent.runtimes.spec import Chunk

_PIECE_BYTES = 16384
"""Docker cuts longer lines into pieces of this size, each an entry of its log."""

_MENDED_IN = 23
"""The first Docker release that may not lose newlines; 20.10 does."""


class LogReader:
    """Reads one container's log, again and again, and gives each byte once."""

    def __init__(self, engine: Engine, native_id: str) -> None:
        self._engine = engine
        self._path = f"containers/{native_id}/logs"
        self._seen_bytes = {STDOUT: 0, STDERR: 0}

    async def read(self, *, follow: bool) -> AsyncIterator[Chunk]:
        """Read from the start, and yield what no earlier call has.

        Args:
            follow: Go on while the container runs. Its end ends the stream, but then a last line
                that nobody ended may be missing; a read without *follow* has it.
        """
        skip = dict(self._seen_bytes)
        mender = LineMender(loses_newlines=_loses_newlines(self._engine))
        params = {"follow": str(int(follow)), "stdout": "1", "stderr": "1"}
        async with self._engine.stream("GET", self._path, params=params) as response:
            async for frames in read_frames(response):
                fresh: list[Frame] = []
                for stream, data in mender.mend(frames):
                    known = min(skip[stream], len(data))
                    skip[stream] -= known
                    if known < len(data):
                        fresh.append((stream, data[known:]))
                        self._seen_bytes[stream] += len(data) - known
                for chunk in merge_frames(fresh):
                    yield chunk


async def read_last_words(engine: Engine, native_id: str) -> bytes:
    """Return the last entry that a container has in its log of stderr."""
    path, params = f"containers/{native_id}/logs", {"stderr": "1", "tail": "1"}
    words = b""
    async with engine.stream("GET", path, params=params) as response:
        async for frames in read_frames(response):
            words += b"".join(data for _, data in frames)
    return words


class LineMender:
    """Gives lines that were cut the newline back that the `local` log driver lost.

    Seen with Docker 20.10: the last piece of a cut line has no newline, and if the line fills its
    pieces exactly, there is no last piece either.
    """

    def __init__(self, *, loses_newlines: bool) -> None:
        """Start at the beginning of a log.

        Args:
            loses_newlines: The engine is known to do that. Otherwise a piece that ends in a newline
                is the end of the cut line before it.
        """
        self._loses_newlines = loses_newlines
        self._before = {STDOUT: _Entry.WHOLE, STDERR: _Entry.WHOLE}

    def mend(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames with what they lack; streams are 1 or 2."""
        for number, data in frames:
            stream = STDERR if number == STDERR else STDOUT
            before = self._before[stream]
            is_ended = data.endswith(b"\n")
            if is_ended:
                self._before[stream] = _Entry.WHOLE
            elif len(data) == _PIECE_BYTES:
                self._before[stream] = _Entry.PIECE
            else:
                is_last = before is _Entry.PIECE
                self._before[stream] = _Entry.LAST_PIECE if is_last else _Entry.WHOLE
            was_lost = before is _Entry.LAST_PIECE or (
                before is _Entry.PIECE and is_ended and self._loses_newlines
            )
            yield stream, b"\n" + data if was_lost else data


class _Entry(Enum):
    """What an entry of a log is, as far as its form tells."""

    WHOLE = auto()
    PIECE = auto()
    """Of a line that was cut, with more to come."""
    LAST_PIECE = auto()
    """Of a line that was cut; its newline, if there was one, is lost."""


def _loses_newlines(engine: Engine) -> bool:
    major = engine.version.partition(".")[0]
    return major.isdigit() and int(major) < _MENDED_IN
