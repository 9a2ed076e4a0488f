"""The database: how it is opened, read and written."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from shipway_master.errors import CannotStart, InvalidArgument, Unavailable

log = logging.getLogger(__name__)

_BUSY_LIMIT_S = 30
_READERS = 4
_PASSING = ("08", "40", "53", "57", "58")
"""Classes of PostgreSQL's error states: connection, conflict, resources, shutdown, system."""
_WRONG_VALUE = "22"
"""The same for values that it cannot hold, as text with a NUL in it."""


class Database:
    """Sessions on the master's database; made by `opened()`.

    Inside them, what the database cannot do just now (disk full, server gone, too long busy)
    becomes `Unavailable`, and what it can never hold `InvalidArgument`; a broken constraint stays
    SQLAlchemy's `IntegrityError`.

    SQLite knows one writer at a time, so all writing goes through one connection that waits its
    turn here, in order, and readers have connections of their own that no writer blocks (WAL).
    """

    def __init__(self, reader: AsyncEngine, writer: AsyncEngine) -> None:
        self._read = async_sessionmaker(reader, expire_on_commit=False)
        self._write = async_sessionmaker(writer, expire_on_commit=False)

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncSession]:
        """Open a session that sees one consistent state and cannot change it.

        There is nothing to commit at its end, and so nothing that a caller who hangs up could cut
        off: the session is closed to its end even then.
        """
        with _told():
            async with self._read() as session:
                yield session

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncSession]:
        """Open a transaction: committed at the end of the block, rolled back when it raises.

        Keep it short and await nothing foreign inside: on SQLite all other writers wait for it.
        What others see of the change (events, caches) belongs after the block.
        """
        with _told():
            async with self._write() as session, session.begin():
                yield session


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError) as error:
        if isinstance(error, DBAPIError) and _is_too_much(error):
            raise InvalidArgument(f"the database cannot look for this: {error.orig}") from error
        if isinstance(error, DBAPIError) and not _may_pass(error):
            if _state(error).startswith(_WRONG_VALUE):
                raise InvalidArgument(f"the database cannot hold this: {error.orig}") from error
            raise
        reason = error.orig if isinstance(error, DBAPIError) else error
        log.warning("the database did not answer as it should: %s", reason)
        raise Unavailable(f"the database is not available: {reason}") from error


def _is_too_much(error: DBAPIError) -> bool:
    """Tell whether *error* is about what was asked for: a pattern, or a list, beyond all bounds."""
    text = str(error.orig)
    if getattr(error.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR:
        return "too complex" in text or "too large" in text or "too many" in text
    return "the number of query arguments cannot exceed" in text


def _may_pass(error: DBAPIError) -> bool:
    """Tell whether *error* is the state of the database, and not of what was asked of it."""
    return (
        isinstance(error, OperationalError)
        or error.connection_invalidated
        or _state(error).startswith(_PASSING)
    )


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


@asynccontextmanager
async def opened(url: str | URL) -> AsyncGenerator[Database]:
    """Connect to *url*, bring its tables up to date, and disconnect at the end.

    Args:
        url: As SQLAlchemy has it. `sqlite:///FILE` and `postgresql://…` get their asynchronous
            driver added.

    Raises:
        CannotStart: It is damaged, not writable, of a newer release, or not to be reached.
        OSError: The file of an SQLite database cannot be made.
    """
    parsed = _asynchronous(make_url(url))
    is_sqlite = parsed.get_backend_name() == "sqlite"
    if is_sqlite and parsed.database:
        await asyncio.to_thread(_make_private, Path(parsed.database))
    with _told_at_start(parsed):
        writer = _engine(parsed, is_sqlite=is_sqlite, reads_only=False)
    reader = _engine(parsed, is_sqlite=is_sqlite, reads_only=True) if is_sqlite else writer
    try:
        with _told_at_start(parsed):
            async with writer.begin() as connection:
                await connection.run_sync(_migrate)
        yield Database(reader, writer)
    finally:
        await reader.dispose()
        await writer.dispose()


@asynccontextmanager
async def connected(url: URL) -> AsyncGenerator[AsyncConnection]:
    """Connect to *url* once, to read; its tables are left as they are.

    Raises:
        CannotStart: It is damaged, or not to be reached.
    """
    parsed = _asynchronous(url)
    with _told_at_start(parsed):
        is_sqlite = parsed.get_backend_name() == "sqlite"
        engine = _engine(parsed, is_sqlite=is_sqlite, reads_only=True)
        try:
            async with engine.connect() as connection:
                yield connection
        finally:
            await engine.dispose()


@contextmanager
def _told_at_start(url: URL) -> Generator[None]:
    plain = url.set(drivername=url.get_backend_name())
    name = f"the database {url.database if plain.drivername == 'sqlite' else repr(plain)}"
    try:
        yield
    except ImportError as error:
        raise CannotStart(f"{name} needs a package that is not installed: {error}") from error
    except DBAPIError as error:
        raise CannotStart(f"{name} cannot be used: {error.orig}") from error
    except OSError as error:
        raise CannotStart(f"{name} cannot be reached: {error}") from error
    except CommandError as error:
        problem = f"{name} was written by a newer release ({error})"
        raise CannotStart(f"{problem}: start that one, or go back to a backup") from error


def _asynchronous(url: URL) -> URL:
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    return url.set(drivername=drivers.get(url.drivername, url.drivername))


def _make_private(path: Path) -> None:
    """The file holds password hashes: create it readable by its owner alone."""
    path.touch(mode=0o600)


def _engine(url: URL, *, is_sqlite: bool, reads_only: bool) -> AsyncEngine:
    if not is_sqlite:
        return create_async_engine(url, pool_pre_ping=True, hide_parameters=True)
    engine = create_async_engine(
        url,
        hide_parameters=True,  # errors are logged, and values may be secrets
        connect_args={"timeout": _BUSY_LIMIT_S},
        pool_size=_READERS if reads_only else 1,
        max_overflow=0,
        pool_timeout=_BUSY_LIMIT_S,
    )

    def connected(connection: DBAPIConnection, _: Any) -> None:
        # The driver would begin transactions by its own rules, too late for a consistent read.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # Enough against a crash of this process; only a power loss may cost the last commits.
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        if reads_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    def began(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", began)
    return engine


def _migrate(connection: Connection) -> None:
    config = Config()
    scripts = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", scripts.replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
