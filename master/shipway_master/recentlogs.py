"""The master's own latest log lines, for those who look after it from afar."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from shipway_common.logsetup import text_formatter

_KEPT_LINES = 10_000
_KEPT_CHARACTERS = 10_000
"""Of one line, which may quote what somebody sent."""


@dataclass(frozen=True, slots=True)
class LoggedLine:
    """One record that was logged."""

    id: int
    """Counts up from 0 at the master's start."""
    created_s: float
    """Seconds since 1970."""
    level: int
    """As Python's logging numbers it."""
    text: str


class RecentLogs(logging.Handler):
    """Keeps the last lines in memory; records may come from any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(text_formatter())
        self._lines: deque[LoggedLine] = deque(maxlen=_KEPT_LINES)
        self._ids = itertools.count()
        self._loop = asyncio.get_running_loop()
        self._grown = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; called by the logging system, one at a time."""
        text = self.format(record)[:_KEPT_CHARACTERS].encode(errors="replace").decode()
        line = LoggedLine(next(self._ids), record.created, record.levelno, text)
        self._lines.append(line)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def read(self, *, offset: int, limit: int) -> list[LoggedLine]:
        """Read lines that are kept.

        Args:
            offset: How many lines since the start to skip; a negative one counts from the end.
            limit: How many at most; 0 means all.
        """
        lines = list(self._lines)
        lines = lines[offset:] if offset < 0 else [line for line in lines if line.id >= offset]
        return lines[:limit] if limit else lines

    async def follow(self, *, offset: int) -> AsyncGenerator[LoggedLine]:
        """Iterate over what `read` gives, and over what comes, without an end."""
        if offset < 0:
            offset = next((line.id for line in self.read(offset=offset, limit=0)), 0)
        while True:
            grown = self._grown  # before the look, so that no line falls between the two
            lines = self.read(offset=offset, limit=0)
            for line in lines:
                yield line
                offset = line.id + 1
            if not lines:
                await grown.wait()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


@contextmanager
def keeping_recent_logs() -> Generator[RecentLogs]:
    """Keep what is logged inside the block."""
    handler = RecentLogs()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
