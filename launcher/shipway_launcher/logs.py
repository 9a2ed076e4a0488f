"""Logs as the API serves them: something with a size, of which a part can be read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shipway_launcher.transport.base import Transport

_BLOCK = 1 << 18
_LONGEST_TAIL = 16 << 20


class Log(Protocol):
    """Bytes of which a part can be read."""

    @property
    def size(self) -> int:
        """Size in bytes at the moment the log was opened."""
        ...

    @property
    def modified_at(self) -> float | None:
        """Seconds from 1970 to its last change; None: there is no file yet."""
        ...

    async def read(self, offset: int, limit: int) -> bytes:
        """Return up to *limit* bytes from *offset* on."""
        ...


@dataclass(frozen=True, slots=True)
class TextLog:
    """A log that is in memory."""

    data: bytes
    modified_at: float | None = None

    @property
    def size(self) -> int:
        return len(self.data)

    async def read(self, offset: int, limit: int) -> bytes:
        return self.data[offset : offset + limit]


@dataclass(frozen=True, slots=True)
class FileLog:
    """A log in a file of the job's user."""

    user: Transport
    path: Path
    size: int
    modified_at: float | None

    async def read(self, offset: int, limit: int) -> bytes:
        return await self.user.read(self.path, offset=offset, limit=min(limit, self.size - offset))


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a log, in bytes: from *start* to before *end*."""

    start: int
    end: int
    lines: tuple[int, int] | None = None
    """Numbers of its first and last line, where lines were asked for."""


async def read_span(log: Log, span: Span) -> AsyncIterator[bytes]:
    """Read a part of a log in blocks."""
    offset = span.start
    while offset < span.end:
        block = await log.read(offset, min(_BLOCK, span.end - offset))
        if not block:
            return
        offset += len(block)
        yield block


async def find_lines(log: Log, first: int, last: int | None) -> Span | None:
    """Find the lines *first* to *last*, counted from one; None if the log has fewer than *first*."""
    start = 0 if first == 1 else None
    line, offset = 1, 0
    has_rest = False
    async for block in read_span(log, Span(0, log.size)):
        position = 0
        while (position := block.find(b"\n", position) + 1) > 0:
            line += 1
            if line == first:
                start = offset + position
            if last is not None and line == last + 1 and start is not None:
                return Span(start, offset + position, (first, last))
        offset += len(block)
        has_rest = not block.endswith(b"\n")
    if start is None or start >= log.size:
        return None
    return Span(start, log.size, (first, line if has_rest else line - 1))


async def find_last_lines(log: Log, count: int) -> Span:
    """Find the last *count* lines, reading backwards and no further than needed.

    How many lines there are before them is then not known, and their numbers are estimated.
    """
    start = log.size
    left = count
    tail_begins_at = max(0, log.size - _LONGEST_TAIL)
    is_last_byte = True
    while start > tail_begins_at:
        size = min(_BLOCK, start - tail_begins_at)
        block = await log.read(start - size, size)
        end = len(block) - 1 if is_last_byte else len(block)  # the last line's own end counts not
        is_last_byte = False
        while (position := block.rfind(b"\n", 0, max(end, 0))) >= 0:
            left -= 1
            if left == 0:
                begin = start - size + position + 1
                before = max(1, round(begin * count / (log.size - begin)))
                return Span(begin, log.size, (before + 1, before + count))
            end = position
        start -= size
    return Span(start, log.size)
