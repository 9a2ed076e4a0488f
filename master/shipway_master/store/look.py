"""A look at the database that changes nothing in it, for the check of the settings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, func, select
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from shipway_master.errors import CannotStart
from shipway_master.store.database import connected
from shipway_master.store.tasks import TaskRow
from shipway_master.store.users import UserRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who can log in."""

    username: str
    password_hash: str | None
    is_admin: bool


class Look:
    """What there is to see."""

    def __init__(self, connection: AsyncConnection, *, revision: str | None) -> None:
        self._connection = connection
        self.revision = revision
        """Of its tables; None while there are none."""
        self.newest = _get_newest()
        """Of the tables that this release wants."""

    @property
    def is_known(self) -> bool:
        """Whether this release knows how its tables are."""
        try:
            _scripts().get_revisions(self.revision or ())
        except CommandError:
            return False
        return True

    @property
    def is_current(self) -> bool:
        """Whether its tables are as this release wants them."""
        return self.revision == self.newest

    async def fetch_clock(self) -> datetime | None:
        """What the clock of the database's server says; None where that is this machine."""
        if self._connection.dialect.name == "sqlite":
            return None
        return await self._connection.scalar(select(func.now()))

    async def fetch_newest_task(self) -> datetime | None:
        """When the newest task was made."""
        return await self._connection.scalar(select(func.max(TaskRow.started_at)))

    async def list_accounts(self) -> list[Account]:
        """Those who can log in."""
        statement = select(UserRow.username, UserRow.password_hash, UserRow.admin)
        rows = await self._connection.execute(statement.where(UserRow.active).order_by(UserRow.id))
        return [
            Account(username=name, password_hash=stored, is_admin=is_admin)
            for name, stored, is_admin in rows
        ]


@asynccontextmanager
async def looking(url: URL) -> AsyncGenerator[Look | None]:
    """Open a database to look at; None where it is a file that is not there yet.

    Raises:
        CannotStart: It cannot be read or reached.
    """
    if not await asyncio.to_thread(_is_there, url):
        yield None
        return
    async with connected(url) as connection:
        revision = await connection.run_sync(_get_revision)
        yield Look(connection, revision=revision)


def _is_there(url: URL) -> bool:
    if url.get_backend_name() != "sqlite" or not url.database:
        return True
    try:
        return Path(url.database).exists()
    except OSError as error:  # in a folder that is closed to this user
        raise CannotStart(f"the database {url.database} cannot be used: {error}") from error


def _get_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent / "migrations"))


def _get_newest() -> str:
    newest = _scripts().get_current_head()
    assert newest is not None
    return newest
