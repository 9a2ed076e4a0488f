"""The database: migrations, transactions, and what it is opened with."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from shipway_master import store
from shipway_master.config import Db
from shipway_master.errors import CannotStart, InvalidArgument, Unavailable
from shipway_master.logbook import LogBook, LogQuery
from shipway_master.store import Base
from shipway_master.store.base import microseconds, moment
from shipway_master.store.database import Database, opened
from shipway_master.store.users import UserRow


class _PostgresError(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def _postgres_error(state: str) -> DBAPIError:
    """Build what SQLAlchemy makes of an error of asyncpg."""
    return DBAPIError("SELECT", {}, _PostgresError(state))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    """Open a new database."""
    async with opened(f"sqlite:///{tmp_path / 'm.db'}") as database:
        yield database


def user(name: str) -> UserRow:
    """Build a user."""
    return UserRow(username=name, modified_at=datetime.now(UTC))


async def count(database: Database) -> int:
    """Count the users."""
    async with database.reading() as session:
        return await session.scalar(select(func.count()).select_from(UserRow)) or 0


async def test_models_and_migrations_say_the_same(database: Database, tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))

    engine = create_engine(f"sqlite:///{tmp_path / 'm.db'}")
    with engine.connect() as connection:
        found = differences(connection)
    engine.dispose()

    assert found == []


async def test_lines_of_a_former_release_are_kept_in_their_order(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'm.db'}")
    with engine.begin() as connection:
        _upgrade(connection, "0003")
        row = {"container_id": "c", "stdtype": "stdout", "level": 3, "rank_id": None}
        connection.execute(
            text(
                "INSERT INTO task_logs (task_id, container_id, stdtype, level, rank_id,"
                " timestamp_us, end_offset, log) VALUES (:task_id, :container_id, :stdtype, :level,"
                " :rank_id, :timestamp_us, :end_offset, :log)"
            ),
            [
                {
                    **row,
                    "task_id": f"t{number % 2}",
                    "timestamp_us": number,
                    "end_offset": number,
                    "log": b"%d \xff\n" % number,
                }
                for number in range(5000)
            ],
        )
    engine.dispose()

    async with opened(f"sqlite:///{tmp_path / 'm.db'}") as database, LogBook(database) as book:
        found = [line async for line in book.read(LogQuery(task_id="t1"))]
        assert await book.stream_end("t1", "c", "stdout") == 4999

    assert [line.text for line in found] == [f"{number} \ufffd\n" for number in range(1, 5000, 2)]
    assert [line.id for line in found] == list(range(1, 2501))
    assert {(line.container_id, line.level, line.rank_id) for line in found} == {("c", 3, None)}
    assert found[-1].timestamp_us == 4999


def _upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    for expected in (0, 1):
        async with opened(url) as database:
            assert await count(database) == expected
            if not expected:
                async with database.writing() as session:
                    session.add(user("a"))


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.writing() as session:
            session.add(user("a"))
            await session.flush()
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (it is ours, and has no text)
        await fail()
    assert await count(database) == 0


async def test_a_transaction_that_is_cancelled_leaves_nothing(database: Database) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with database.writing() as session:
            session.add(user("a"))
            await session.flush()
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(write())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])

    assert await count(database) == 0
    async with database.writing() as session:
        session.add(user("b"))
    assert await count(database) == 1


async def test_writers_wait_for_each_other_and_none_is_lost(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.writing() as session:
            before = await session.scalar(select(func.count()).select_from(UserRow))
            session.add(user(f"user{number}"))
            await session.flush()
            assert await session.scalar(select(func.count()).select_from(UserRow)) == before + 1

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(add(number))

    assert await count(database) == 30


async def test_a_reader_is_not_held_up_by_a_writer_and_sees_one_state(database: Database) -> None:
    async with database.writing() as writing, database.reading() as reading:
        writing.add(user("a"))
        await writing.flush()
        assert await reading.scalar(select(func.count()).select_from(UserRow)) == 0
        await writing.commit()
        assert await reading.scalar(select(func.count()).select_from(UserRow)) == 0
    assert await count(database) == 1


async def test_a_reader_cannot_write(database: Database) -> None:
    async def write() -> None:
        async with database.reading() as session:
            await session.execute(text("DELETE FROM users"))

    with pytest.raises(Unavailable, match="readonly"):
        await write()


async def test_a_broken_constraint_is_not_an_outage(database: Database) -> None:
    async def add() -> None:
        async with database.writing() as session:
            session.add(user("a"))

    await add()
    with pytest.raises(IntegrityError):
        await add()


async def test_the_file_is_its_owners_alone(database: Database, tmp_path: Path) -> None:
    assert _modes(tmp_path) == {0o600}


async def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def start() -> None:
        async with opened(f"sqlite:///{tmp_path / 'nowhere' / 'm.db'}"):
            pass

    with pytest.raises(FileNotFoundError):
        await start()


async def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.db").write_bytes(b"no database at all, but long enough for its header" * 100)
    with pytest.raises(CannotStart, match=r"m\.db cannot be used: file is not a database"):
        async with opened(f"sqlite:///{tmp_path / 'm.db'}"):
            pass


async def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    async with opened(url) as database, database.writing() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CannotStart, match=r"m\.db was written by a newer release"):
        async with opened(url):
            pass


async def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?b=c#%20 d"
    folder.mkdir()
    async with opened(Db().resolve_url(folder)):
        assert (folder / "master.db").exists()


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (ConnectionRefusedError("no server"), Unavailable),
        (_postgres_error("57P01"), Unavailable),
        (_postgres_error("53100"), Unavailable),
        (_postgres_error("22021"), InvalidArgument),
        (_postgres_error("42601"), DBAPIError),
    ],
    ids=["refused", "shutdown", "disk full", "NUL in text", "syntax"],
)
async def test_what_a_database_server_does_is_told_by_its_kind(
    database: Database, failure: Exception, told: type[Exception]
) -> None:
    async def use() -> None:
        async with database.reading():
            raise failure

    with pytest.raises(told):
        await use()


@pytest.mark.parametrize(
    "when",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    ],
    ids=str,
)
async def test_times_come_back_as_they_went_in(database: Database, when: datetime) -> None:
    assert moment(microseconds(when)) == when
    async with database.writing() as session:
        session.add(UserRow(username="a", modified_at=when))
    async with database.reading() as session:
        assert await session.scalar(select(UserRow.modified_at)) == when


def _modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
