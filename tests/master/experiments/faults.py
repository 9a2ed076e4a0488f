"""Faults of a master's database, made from outside: changes that it does not take for a while."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

FILE = "master.db"


def change(data: Path, statement: str, values: Sequence[object] = ()) -> int:
    """Change the database of a master; return how many rows were."""
    with closing(sqlite3.connect(data / FILE, timeout=60)) as database, database:
        database.execute("PRAGMA foreign_keys = ON")
        return database.execute(statement, values).rowcount


def copy_data(data: Path, to: Path) -> None:
    """Copy the data of a running master, as they would be after a crash at this moment."""
    shutil.copytree(data, to, ignore=shutil.ignore_patterns(f"{FILE}*"))
    with (
        closing(sqlite3.connect(data / FILE)) as database,
        closing(sqlite3.connect(to / FILE)) as copy,
    ):
        database.backup(copy)


def refuse(data: Path, event: str, when: str = "1") -> None:
    """Have the database take no *event* ("UPDATE ON trials", say) until it is healed.

    What it answers then is what it answers on a full disk, as far as the master can tell.
    """
    body = f"SELECT abs({-(2**63)});"  # an error of SQLite itself, unlike that of a constraint
    change(data, f"CREATE TRIGGER refusal BEFORE {event} WHEN {when} BEGIN {body} END")


def heal(data: Path) -> None:
    """Have the database take everything again."""
    change(data, "DROP TRIGGER refusal")


@asynccontextmanager
async def refusing(data: Path, event: str, when: str = "1") -> AsyncGenerator[None]:
    """Refuse an event for the time of the block."""
    await asyncio.to_thread(refuse, data, event, when)
    try:
        yield
    finally:
        await asyncio.to_thread(heal, data)
