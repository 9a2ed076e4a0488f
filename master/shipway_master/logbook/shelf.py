"""The chunks of all tasks in the database: how lines are put there and found again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.logbook.chunks import joined, read_origins, unpack
from shipway_master.logbook.lines import LogLine, Origin
from shipway_master.logbook.packing import Block, Packed, pack_columns
from shipway_master.logbook.query import LogQuery
from shipway_master.store.database import Database
from shipway_master.store.logs import LogChunkRow, LogStreamRow

_FULL_LINES = 512
_FULL_BYTES = 32 * 1024
"""Of a block. A chunk of this many lines or bytes is not worth putting together with others."""
_TAIL_LINES = 2048
_TAIL_BYTES = 128 * 1024
_TAIL_CHUNKS = 128
_REMEMBERED_TAILS = 4096
_CHUNKS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Small:
    """A chunk that may still grow together with those after it."""

    last_id: int
    lines: int
    size: int
    """Of its block, in bytes."""


@dataclass(frozen=True, slots=True)
class _Tail:
    """Where a task's log ends."""

    last_id: int
    small: tuple[_Small, ...]
    """The last chunks, as far as they are not full."""

    @property
    def is_long(self) -> bool:
        """Whether it is time to put the small chunks together."""
        return len(self.small) > 1 and (
            len(self.small) >= _TAIL_CHUNKS
            or sum(chunk.lines for chunk in self.small) >= _TAIL_LINES
            or sum(chunk.size for chunk in self.small) >= _TAIL_BYTES
        )


class LogShelf:
    """Knows the rows. There must be one writer at a time; readers may be many."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tails: OrderedDict[str, _Tail] = OrderedDict()

    async def store(self, parts: Sequence[Packed]) -> None:
        """Store *parts* in their order, all or none.

        Raises:
            Unavailable: The database refused; nothing was stored.
        """
        tails: dict[str, _Tail] = {}
        rows: list[dict[str, Any]] = []
        async with self._database.writing() as session:
            for part in parts:
                task_id = part.task_id
                tail = tails.get(task_id) or self._tails.get(task_id)
                tail = tail or await _load_tail(session, task_id)
                tails[task_id] = _add(rows, task_id, tail, part.blocks)
            await session.execute(insert(LogChunkRow), rows)
            for task_id, tail in tails.items():
                if tail.is_long:
                    tails[task_id] = await _put_together(session, task_id, tail)
            for part in parts:
                await _note_ends(session, part)
        for task_id, tail in tails.items():
            self._tails[task_id] = tail
            self._tails.move_to_end(task_id)
        while len(self._tails) > _REMEMBERED_TAILS:
            self._tails.popitem(last=False)

    async def remove(self, task_id: str) -> int:
        """Remove the log of a task that will get no more lines; returns how many it had.

        Raises:
            Unavailable: The database refused; nothing was removed.
        """
        lines = func.sum(LogChunkRow.last_id - LogChunkRow.first_id + 1)
        async with self._database.writing() as session:
            count = await session.scalar(select(lines).where(LogChunkRow.task_id == task_id))
            for row in (LogChunkRow, LogStreamRow):
                await session.execute(delete(row).where(row.task_id == task_id))
        self._tails.pop(task_id, None)
        return int(count or 0)  # PostgreSQL sums to a decimal

    async def last_id(self, task_id: str) -> int:
        """Tell the id of the newest line of *task_id*; 0 when it has none."""
        statement = select(func.max(LogChunkRow.last_id)).where(LogChunkRow.task_id == task_id)
        async with self._database.reading() as session:
            return await session.scalar(statement) or 0

    async def stream_end(self, task_id: str, container_id: str, stdtype: str) -> int | None:
        """Tell up to which byte the output of a container is stored; None: nobody counted."""
        async with self._database.reading() as session:
            row = await session.get(LogStreamRow, (task_id, container_id, stdtype))
        return None if row is None else row.end_offset

    async def read(
        self, query: LogQuery, *, after: int, until: int
    ) -> AsyncGenerator[list[LogLine]]:
        """Iterate over the wanted lines with ids in (after, until], some chunks at a time."""
        while after < until:
            async with self._database.reading() as session:
                rows = (await session.execute(_page(query, after=after, until=until))).all()
            yield await asyncio.to_thread(_select, query, rows, after, until)
            if len(rows) < _CHUNKS_AT_ONCE:
                return
            if query.newest_first:
                until = rows[-1].first_id - 1
            else:
                after = rows[-1].last_id

    async def origins(
        self, task_id: str, *, after: int, until: int
    ) -> AsyncGenerator[list[Origin]]:
        """Iterate over where the lines with ids in (after, until], or neighbours, come from."""
        query = LogQuery(task_id=task_id)
        while after < until:
            async with self._database.reading() as session:
                rows = (await session.execute(_page(query, after=after, until=until))).all()
            yield [origin for row in rows for origin in read_origins(row.block)]
            if len(rows) < _CHUNKS_AT_ONCE:
                return
            after = rows[-1].last_id


async def _load_tail(session: AsyncSession, task_id: str) -> _Tail:
    columns = LogChunkRow.last_id, LogChunkRow.first_id, func.length(LogChunkRow.block)
    statement = (
        select(*columns)
        .where(LogChunkRow.task_id == task_id)
        .order_by(LogChunkRow.last_id.desc())
        .limit(_TAIL_CHUNKS)
    )
    rows = (await session.execute(statement)).all()
    small: list[_Small] = []
    for last_id, first_id, size in rows:
        chunk = _Small(last_id, last_id - first_id + 1, size)
        if _is_full(chunk):
            break
        small.insert(0, chunk)
    return _Tail(rows[0][0] if rows else 0, tuple(small))


def _add(rows: list[dict[str, Any]], task_id: str, tail: _Tail, blocks: Sequence[Block]) -> _Tail:
    """Make *rows* more by new chunks behind *tail*; returns where the log ends then."""
    last_id, small = tail.last_id, list(tail.small)
    for block in blocks:
        rows.append(
            {
                "task_id": task_id,
                "first_id": last_id + 1,
                "last_id": last_id + block.count,
                "oldest_us": block.oldest_us,
                "newest_us": block.newest_us,
                "block": block.data,
            }
        )
        last_id += block.count
        chunk = _Small(last_id, block.count, len(block.data))
        small = [] if _is_full(chunk) else [*small, chunk]
    return _Tail(last_id, tuple(small))


def _is_full(chunk: _Small) -> bool:
    return chunk.lines >= _FULL_LINES or chunk.size >= _FULL_BYTES


async def _put_together(session: AsyncSession, task_id: str, tail: _Tail) -> _Tail:
    """Make few chunks of many; the lines keep their ids."""
    is_small = (
        LogChunkRow.task_id == task_id,
        LogChunkRow.last_id >= tail.small[0].last_id,
    )
    statement = select(LogChunkRow.first_id, LogChunkRow.block).where(*is_small)
    rows = (await session.execute(statement.order_by(LogChunkRow.last_id))).all()
    blocks = await asyncio.to_thread(_repack, [row.block for row in rows])
    await session.execute(delete(LogChunkRow).where(*is_small))
    merged: list[dict[str, Any]] = []
    tail = _add(merged, task_id, _Tail(rows[0].first_id - 1, ()), blocks)
    await session.execute(insert(LogChunkRow), merged)
    return tail


def _repack(blocks: Sequence[bytes]) -> list[Block]:
    return pack_columns(joined([unpack(block) for block in blocks]))


async def _note_ends(session: AsyncSession, part: Packed) -> None:
    for (container_id, stdtype), end in part.ends.items():
        row = LogStreamRow(
            task_id=part.task_id, container_id=container_id, stdtype=stdtype, end_offset=end
        )
        await session.merge(row)


def _page(query: LogQuery, *, after: int, until: int) -> Select[int, int, bytes]:
    conditions = [
        LogChunkRow.task_id == query.task_id,
        LogChunkRow.last_id > after,
        LogChunkRow.first_id <= until,
    ]
    if query.before_us is not None:
        conditions.append(LogChunkRow.oldest_us < query.before_us)
    if query.after_us is not None:
        conditions.append(LogChunkRow.newest_us > query.after_us)
    order = LogChunkRow.last_id.desc() if query.newest_first else LogChunkRow.last_id
    columns = LogChunkRow.first_id, LogChunkRow.last_id, LogChunkRow.block
    return select(*columns).where(*conditions).order_by(order).limit(_CHUNKS_AT_ONCE)


def _select(query: LogQuery, rows: Sequence[Any], after: int, until: int) -> list[LogLine]:
    return [
        line
        for row in rows
        for line in query.select(unpack(row.block), row.first_id, after=after, until=until)
    ]
