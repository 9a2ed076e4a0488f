"""The book itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import operator
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, Self

from shipway_master.changes import Changes
from shipway_master.groupwriter import GroupWriter, Waiting
from shipway_master.logbook.lines import LogFields, LogLine
from shipway_master.logbook.packing import Packed, pack_lines
from shipway_master.logbook.query import LogQuery
from shipway_master.logbook.shelf import LogShelf
from shipway_master.store.base import microseconds
from shipway_master.store.database import Database

_CALLERS_AT_ONCE = 10_000
_MANY_LINES = 250
"""From so many on it is worth the way into another thread to pack them."""

_task_id = operator.attrgetter("task_id")


class TaskEnds(Protocol):
    """Who knows about tasks."""

    async def end_of(self, task_id: str) -> datetime | None:
        """Tell when *task_id* ended, None while it lives.

        Raises:
            NotFound: There never was such a task.
        """
        ...


class LogBook:
    """All task logs; entered, it owns the task that writes them."""

    def __init__(self, database: Database) -> None:
        self._shelf = LogShelf(database)
        self._changes: Changes[str] = Changes()
        self._observers: list[Callable[[Sequence[LogLine]], None]] = []
        self._writing = asyncio.Lock()
        self._writer = GroupWriter(self._store, name="log lines", at_once=_CALLERS_AT_ONCE)

    async def __aenter__(self) -> Self:
        await self._writer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what is still waiting, and take no more."""
        await self._writer.__aexit__()

    def observe(self, observer: Callable[[Sequence[LogLine]], None]) -> None:
        """Have all lines that come from now on shown to *observer* once they are stored."""
        self._observers.append(observer)

    async def append(self, lines: Sequence[LogLine]) -> None:
        """Store *lines* and return when they are safe.

        Lines of several callers that wait at the same time share one transaction.

        Raises:
            Unavailable: The database refused (disk full, server gone), or the book is closed;
                nothing was stored.
        """
        if not lines:
            return
        parts: list[Packed] | None = None
        if len(lines) >= _MANY_LINES:  # not in the writer, which all others wait for
            parts = await asyncio.to_thread(_pack, lines)
        await self._writer.put(_Entry(lines, parts))
        for observer in self._observers:
            observer(lines)

    async def remove(self, task_id: str) -> int:
        """Remove the log of a task that ended long ago; returns how many lines it had.

        Raises:
            Unavailable: The database refused; nothing was removed.
        """
        async with self._writing:
            return await self._shelf.remove(task_id)

    def announce_end(self, task_id: str) -> None:
        """Tell those who follow *task_id* to ask for its end. Call it when `end_of` has one."""
        self._changes.announce(task_id)

    async def read(self, query: LogQuery, *, limit: int = 0) -> AsyncGenerator[LogLine]:
        """Iterate over what is stored now, one page in memory at a time; *limit* 0 means all."""
        left = limit
        newest = await self._shelf.last_id(query.task_id)
        async for line in self._lines(query, after=0, until=newest):
            yield line
            left -= 1
            if left == 0:
                return

    async def follow(
        self, query: LogQuery, tasks: TaskEnds, *, settle_s: float
    ) -> AsyncGenerator[LogLine]:
        """Iterate over stored and coming lines, until the task has ended and all was given out.

        Args:
            query: In ascending order.
            tasks: Is asked for the end of the task.
            settle_s: How long after that end lines may still come, in seconds.
        """
        async with aclosing(self._growth(query.task_id, tasks, settle_s=settle_s)) as growth:
            async for after, until in growth:
                async for line in self._lines(query, after=after, until=until):
                    yield line

    async def stream_end(self, task_id: str, container_id: str, stdtype: str) -> int | None:
        """Tell up to which byte the output of a container is stored; None: nobody counted."""
        return await self._shelf.stream_end(task_id, container_id, stdtype)

    async def fields(self, task_id: str) -> LogFields:
        """Collect the distinct values of the lines stored now."""
        found = LogFields()
        await self._collect_fields(task_id, 0, await self._shelf.last_id(task_id), found)
        return found

    async def follow_fields(
        self, task_id: str, tasks: TaskEnds, *, settle_s: float
    ) -> AsyncGenerator[LogFields]:
        """Iterate over the distinct values so far, anew when there are more; ends as `follow`."""
        found = LogFields()
        async with aclosing(self._growth(task_id, tasks, settle_s=settle_s)) as growth:
            async for after, until in growth:
                count = found.count()
                await self._collect_fields(task_id, after, until, found)
                if found.count() > count:
                    yield found

    async def _growth(
        self, task_id: str, tasks: TaskEnds, *, settle_s: float
    ) -> AsyncGenerator[tuple[int, int]]:
        """Iterate over ranges of ids (after, until) as lines of *task_id* come in."""
        last = 0
        with self._changes.watch(task_id) as watch:
            while True:
                ended_at = await tasks.end_of(task_id)  # asked first, so no line is missed below
                newest = await self._shelf.last_id(task_id)
                if newest > last:
                    yield last, newest
                    last = newest
                wait_s = None
                if ended_at is not None:
                    wait_s = settle_s - (datetime.now(UTC) - ended_at).total_seconds()
                    if wait_s <= 0:
                        return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await watch.changed()

    async def _lines(self, query: LogQuery, *, after: int, until: int) -> AsyncGenerator[LogLine]:
        async with aclosing(self._shelf.read(query, after=after, until=until)) as pages:
            async for page in pages:
                for line in page:
                    yield line

    async def _collect_fields(self, task_id: str, after: int, until: int, found: LogFields) -> None:
        async with aclosing(self._shelf.origins(task_id, after=after, until=until)) as pages:
            async for origins in pages:
                found.add(origins)

    async def _store(self, group: Sequence[Waiting[_Entry]]) -> None:
        parts = await _packed([waiting.item for waiting in group])
        async with self._writing:
            await self._shelf.store(parts)
        for task_id in {part.task_id for part in parts}:
            self._changes.announce(task_id)


@dataclass(frozen=True, slots=True)
class _Entry:
    """Lines of one caller."""

    lines: Sequence[LogLine]
    parts: Sequence[Packed] | None
    """The lines again, if they are packed already."""


async def _packed(entries: Sequence[_Entry]) -> list[Packed]:
    """Pack what is not packed yet, the few lines of many callers together."""
    small = [entry.lines for entry in entries if entry.parts is None]
    parts = [part for entry in entries for part in entry.parts or ()]
    lines = list(itertools.chain.from_iterable(small))
    if not lines:
        return parts
    many = len(lines) >= _MANY_LINES
    return parts + (await asyncio.to_thread(_pack, lines) if many else _pack(lines))


def _pack(lines: Sequence[LogLine]) -> list[Packed]:
    now_us = microseconds(datetime.now(UTC))
    by_task: dict[str, list[LogLine]] = {}
    for task_id, group in itertools.groupby(lines, key=_task_id):
        by_task.setdefault(task_id, []).extend(group)
    return [pack_lines(group, now_us) for group in by_task.values()]
