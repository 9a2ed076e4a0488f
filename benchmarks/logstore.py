"""How fast task logs are stored and read, against SQLite alone.

"book" is the master's log book with writers that wait for their lines to be safe, as agents and log
shippers do. "sqlite" writes the same rows into the same table with the bare driver, one transaction
per batch, and reads them back in one go: the limit of the database on this disk.

    python benchmarks/logstore.py [--lines 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from shipway_master.logbook import LogBook, LogLine, LogQuery
from shipway_master.store.database import opened

_WRITERS = 8
_TEXT = "step 1234 loss 0.1234 accuracy 0.98 " + "x" * 60 + "\n"
_INSERT = (
    "INSERT INTO task_logs (task_id, allocation_id, container_id, rank_id, timestamp_us, level,"
    " stdtype, source, log) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{options.lines} lines of {len(_TEXT)} bytes, {_WRITERS} writers")
    for batch in (1, 10, 100, 1000):
        lines = min(options.lines, 2000 * batch)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "logs.db"
            written, read = asyncio.run(_book(path, lines, batch))
            limit_written, limit_read = _sqlite(path, lines, batch)
        print(
            f"batches of {batch:4}: written book {written:8.0f}/s  sqlite {limit_written:8.0f}/s"
            f"  ratio {written / limit_written:.2f}"
            f"   read book {read:8.0f}/s  sqlite {limit_read:8.0f}/s"
            f"  ratio {read / limit_read:.2f}"
        )


async def _book(path: Path, lines: int, batch: int) -> tuple[float, float]:
    async with opened(f"sqlite:///{path}") as database, LogBook(database) as book:

        async def write(writer: int) -> None:
            for count in _batches(lines // _WRITERS, batch):
                await book.append([_line(writer) for _ in range(count)])

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for writer in range(_WRITERS):
                group.create_task(write(writer))
        written = lines / (time.perf_counter() - begun)
        begun = time.perf_counter()
        found = [line async for line in book.read(LogQuery(task_id="book"))]
        return written, len(found) / (time.perf_counter() - begun)


def _sqlite(path: Path, lines: int, batch: int) -> tuple[float, float]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=NORMAL")
        begun = time.perf_counter()
        for count in _batches(lines, batch):
            row = ("sqlite", "t.0", "c" * 36, 1, 1_700_000_000_000_000, 3, "stdout", "task")
            connection.executemany(_INSERT, [(*row, _TEXT.encode()) for _ in range(count)])
            connection.commit()
        written = lines / (time.perf_counter() - begun)
        begun = time.perf_counter()
        query = "SELECT * FROM task_logs WHERE task_id = 'sqlite' ORDER BY id"
        found = connection.execute(query).fetchall()
        return written, len(found) / (time.perf_counter() - begun)


def _line(rank: int) -> LogLine:
    return LogLine(
        task_id="book",
        text=_TEXT,
        level=3,
        allocation_id="t.0",
        container_id="c" * 36,
        rank_id=rank,
        stdtype="stdout",
        source="task",
    )


def _batches(lines: int, batch: int) -> Iterator[int]:
    for start in range(0, lines, batch):
        yield min(batch, lines - start)


if __name__ == "__main__":
    main()
