"""How fast and how small task logs are stored and read, against plain rows in SQLite.

"book" is the master's log book with writers that wait for their lines to be safe, as agents and log
shippers do. "rows" writes the same lines with the bare driver into a table of one row per line that
is indexed by task, one transaction per batch, and reads them back in one go.

    python -m benchmarks.logstore [--lines 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from shipway_master.logbook import LogBook, LogLine, LogQuery
from shipway_master.logbook.search import text_search
from shipway_master.store.database import opened

_WRITERS = 8
_COLUMNS = (
    "task_id, log, timestamp_us, level, allocation_id, agent_id, container_id, rank_id, stdtype,"
    " source"
)
_NEEDLE = "epoch 7 "


@dataclass(frozen=True)
class Result:
    """Lines per second of each act, and what they cost on disk."""

    written: float
    read: float
    backwards: float
    filtered: float
    bytes: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=100_000)
    options = parser.parse_args()
    print(f"{_WRITERS} writers; lines per second, bytes per line, and the ratio of book to rows")
    for batch in (1, 10, 100, 1000):
        count = min(options.lines, 2000 * batch)
        batches = _batches(count, batch)
        with tempfile.TemporaryDirectory() as folder:
            book = asyncio.run(_book(Path(folder) / "book.db", batches))
            rows = _rows(Path(folder) / "rows.db", batches)
        print(f"batches of {batch}, {count} lines")
        for act in ("written", "read", "backwards", "filtered", "bytes"):
            ours, theirs = getattr(book, act), getattr(rows, act)
            print(f"  {act:10} book {ours:10.0f}  rows {theirs:10.0f}  ratio {ours / theirs:6.2f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak memory of all this, the lines to write included: {peak} MiB")


def _batches(count: int, size: int) -> list[list[LogLine]]:
    """Make lines as a training run of eight ranks prints them."""
    chance = random.Random(1)
    lines = [
        LogLine(
            task_id="task",
            text=f"epoch {number // 2000} step {number} loss {chance.random():.4f} accuracy"
            f" {chance.random():.4f} lr 3e-04 tokens/s {chance.randrange(40_000, 60_000)}\n",
            timestamp_us=1_700_000_000_000_000 + number * 500 + chance.randrange(400),
            level=3,
            allocation_id="task.1",
            agent_id="node-17",
            container_id="0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11",
            rank_id=number // size % _WRITERS,
            stdtype="stdout",
            source="task",
        )
        for number in range(count)
    ]
    return [lines[start : start + size] for start in range(0, count, size)]


async def _book(path: Path, batches: Sequence[Sequence[LogLine]]) -> Result:
    count = sum(map(len, batches))
    async with opened(f"sqlite:///{path}") as database, LogBook(database) as book:

        async def write(writer: int) -> None:
            for batch in batches[writer::_WRITERS]:
                await book.append(batch)

        async def read(query: LogQuery) -> float:
            begun = time.perf_counter()
            async for _ in book.read(query):
                pass
            return count / (time.perf_counter() - begun)

        await book.append([LogLine(task_id="first", text="what a process does once\n")])
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for writer in range(_WRITERS):
                group.create_task(write(writer))
        written = count / (time.perf_counter() - begun)
        forwards = await read(LogQuery(task_id="task"))
        backwards = await read(LogQuery(task_id="task", newest_first=True))
        filtered = await read(LogQuery(task_id="task", has_text=text_search(_NEEDLE)))
    with closing(sqlite3.connect(path)) as connection:
        names = ("log_chunks", "log_streams", "sqlite_autoindex_log_chunks_1")
        size = _size(connection, names)
    return Result(written, forwards, backwards, filtered, size / count)


def _rows(path: Path, batches: Sequence[Sequence[LogLine]]) -> Result:
    count = sum(map(len, batches))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"CREATE TABLE lines (id INTEGER PRIMARY KEY, {_COLUMNS})")
        connection.execute("CREATE INDEX by_task ON lines (task_id, id)")
        marks = ", ".join("?" * len(_COLUMNS.split(",")))
        begun = time.perf_counter()
        for batch in batches:
            rows = [line[:10] for line in batch]
            connection.executemany(f"INSERT INTO lines ({_COLUMNS}) VALUES ({marks})", rows)
            connection.commit()
        written = count / (time.perf_counter() - begun)

        def read(rest: str) -> float:
            begun = time.perf_counter()
            query = f"SELECT * FROM lines WHERE task_id = 'task' {rest}"
            for _ in connection.execute(query):
                pass
            return count / (time.perf_counter() - begun)

        forwards = read("ORDER BY id")
        backwards = read("ORDER BY id DESC")
        filtered = read(f"AND instr(log, '{_NEEDLE}') ORDER BY id")
        size = _size(connection, ("lines", "by_task"))
    return Result(written, forwards, backwards, filtered, size / count)


def _size(connection: sqlite3.Connection, names: Sequence[str]) -> int:
    """Sum up the pages of tables and indexes, in bytes."""
    marks = ", ".join("?" * len(names))
    query = f"SELECT sum(pgsize) FROM dbstat WHERE name IN ({marks})"
    (size,) = connection.execute(query, names).fetchone()
    return int(size)


if __name__ == "__main__":
    main()
