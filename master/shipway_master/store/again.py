"""Transactions that look before they write, and can meet another one that does the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.database import Database

Result = TypeVar("Result")


async def write_looking(
    database: Database, work: Callable[[AsyncSession], Awaitable[Result]]
) -> Result:
    """Do *work* in a transaction of its own, and once more if a constraint refuses its rows.

    SQLite has one writer at a time. On PostgreSQL two of them can both see that a name is free, or
    a row is missing, and write it; the later one then sees at its second try what the first did.
    """
    try:
        async with database.writing() as session:
            return await work(session)
    except IntegrityError:
        async with database.writing() as session:
            return await work(session)
