"""The log book: writing, reading in pages, following."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import text

from shipway_master.errors import Internal, NotFound, Unavailable
from shipway_master.logbook import LogBook, LogLine, LogQuery, StoredTasks
from shipway_master.logbook.search import text_search
from shipway_master.store.base import microseconds, moment
from shipway_master.store.database import Database
from tests.master.tasks_in_store import add_task, end_task

Item = TypeVar("Item")


def lines(count: int, *, task_id: str = "t", start: int = 0, **fields: Any) -> list[LogLine]:
    """Build numbered lines."""
    return [
        LogLine(task_id=task_id, text=f"{number}\n", **fields)
        for number in range(start, start + count)
    ]


async def texts(found: AsyncIterator[LogLine]) -> list[str]:
    """Read all texts."""
    return [line.text.rstrip("\n") async for line in found]


async def next_of(items: AsyncGenerator[Item], count: int) -> list[Item]:
    """Take the next *count* items, waiting a while for them."""
    async with asyncio.timeout(60):
        return [await anext(items) for _ in range(count)]


async def test_lines_come_back_as_they_went_in(book: LogBook) -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    line = LogLine(
        task_id="t",
        text="nul \x00 día 😀\r",
        timestamp_us=microseconds(when),
        level=3,
        allocation_id="t.0",
        agent_id="a",
        container_id="c",
        rank_id=0,
        stdtype="stdout",
        source="task",
    )

    await book.append([line])
    [found] = [line async for line in book.read(LogQuery(task_id="t"))]

    assert found.id > 0
    for name in LogLine._fields:
        if name != "id":
            assert getattr(found, name) == getattr(line, name)


async def test_a_line_without_time_gets_that_of_its_arrival(book: LogBook) -> None:
    before = datetime.now(UTC)
    await book.append(lines(1))
    [found] = [line async for line in book.read(LogQuery(task_id="t"))]

    assert found.timestamp_us is not None
    assert before <= moment(found.timestamp_us) <= datetime.now(UTC)


async def test_reading_is_in_order_over_many_pages_and_only_of_one_task(book: LogBook) -> None:
    for start in range(0, 1200, 300):
        await book.append(lines(300, start=start))
        await book.append(lines(10, task_id="other"))

    expected = [str(number) for number in range(1200)]
    assert await texts(book.read(LogQuery(task_id="t"))) == expected
    assert await texts(book.read(LogQuery(task_id="t", newest_first=True))) == expected[::-1]


async def test_lines_that_come_one_by_one_are_kept_together_under_their_numbers(
    book: LogBook, database: Database
) -> None:
    for start in range(0, 900, 3):
        await book.append(lines(3, start=start, rank_id=start % 2))

    found = [line async for line in book.read(LogQuery(task_id="t"))]
    assert [line.text for line in found] == [f"{number}\n" for number in range(900)]
    assert [line.id for line in found] == list(range(1, 901))
    assert [line.rank_id for line in found] == [
        start % 2 for start in range(0, 900, 3) for _ in "abc"
    ]
    async with database.reading() as session:
        chunks = await session.scalar(text("SELECT count(*) FROM log_chunks"))
    assert chunks < 300 / 2


async def test_a_book_opened_again_goes_on_where_the_last_one_ended(database: Database) -> None:
    for start in (0, 2):
        async with LogBook(database) as book:
            await book.append(lines(2, start=start))

    found = [line async for line in book.read(LogQuery(task_id="t"))]
    assert [(line.id, line.text) for line in found] == [
        (1, "0\n"),
        (2, "1\n"),
        (3, "2\n"),
        (4, "3\n"),
    ]


async def test_text_that_is_none_costs_its_characters_alone(book: LogBook) -> None:
    await book.append([LogLine(task_id="t", text="half \ud83d of one\n"), *lines(1)])

    assert await texts(book.read(LogQuery(task_id="t"))) == ["half ? of one", "0"]


async def test_lines_longer_than_a_chunk_are_kept_whole(book: LogBook) -> None:
    long = secrets.token_hex(300_000)
    for line in ("a", long, "b", long, "c"):
        await book.append([LogLine(task_id="t", text=line)])

    assert await texts(book.read(LogQuery(task_id="t"))) == ["a", long, "b", long, "c"]
    newest = LogQuery(task_id="t", newest_first=True)
    assert await texts(book.read(newest)) == ["c", long, "b", long, "a"]


async def test_limits_count_what_was_found(book: LogBook) -> None:
    await book.append(lines(1200))

    newest = LogQuery(task_id="t", newest_first=True)
    assert await texts(book.read(newest, limit=2)) == ["1199", "1198"]
    assert await texts(book.read(LogQuery(task_id="t", has_text=text_search("99")), limit=2)) == [
        "99",
        "199",
    ]


async def test_filters_are_joined_by_and(book: LogBook) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(8):
        await book.append(
            lines(
                1,
                start=number,
                rank_id=number % 2,
                agent_id=f"a{number // 4}",
                level=number % 4,
                timestamp_us=microseconds(when + timedelta(seconds=number)),
            )
        )

    def query(**wanted: Any) -> AsyncIterator[LogLine]:
        return book.read(LogQuery(task_id="t", **wanted))

    assert await texts(query(rank_ids=[1])) == ["1", "3", "5", "7"]
    assert await texts(query(rank_ids=[1], agent_ids=["a1", "a9"])) == ["5", "7"]
    assert await texts(query(levels=[0, 3])) == ["0", "3", "4", "7"]
    assert await texts(
        query(
            after_us=microseconds(when + timedelta(seconds=2)),
            before_us=microseconds(when + timedelta(seconds=5)),
        )
    ) == ["3", "4"]
    assert await texts(query(container_ids=["c"])) == []


async def test_lines_of_many_writers_keep_the_order_of_each(book: LogBook) -> None:
    async def write(writer: int) -> None:
        for number in range(20):
            await book.append(lines(1, start=number, rank_id=writer))

    async with asyncio.TaskGroup() as group:
        for writer in range(10):
            group.create_task(write(writer))

    for writer in range(10):
        query = LogQuery(task_id="t", rank_ids=[writer])
        assert await texts(book.read(query)) == [str(number) for number in range(20)]


async def test_a_follower_gets_old_and_new_lines_and_the_end(
    book: LogBook, database: Database
) -> None:
    await add_task(database, "t")
    await book.append(lines(2))
    follower = book.follow(LogQuery(task_id="t"), StoredTasks(database), settle_s=0)

    assert [line.text for line in await next_of(follower, 2)] == ["0\n", "1\n"]
    waiting = asyncio.ensure_future(next_of(follower, 1))
    await book.append(lines(1, task_id="other"))
    await book.append(lines(1, start=2))
    assert [line.text for line in await waiting] == ["2\n"]

    ending = asyncio.ensure_future(texts(follower))
    await book.append(lines(1, start=3))
    await end_task(database, "t")
    book.announce_end("t")
    assert await asyncio.wait_for(ending, 60) == ["3"]


async def test_a_follower_waits_for_late_lines(book: LogBook, database: Database) -> None:
    await add_task(database, "t", ended_at=datetime.now(UTC))
    follower = book.follow(LogQuery(task_id="t"), StoredTasks(database), settle_s=2)
    reading = asyncio.ensure_future(texts(follower))

    await book.append(lines(1))

    assert await asyncio.wait_for(reading, 60) == ["0"]


async def test_following_what_ended_long_ago_is_reading(book: LogBook, database: Database) -> None:
    await add_task(database, "t", ended_at=datetime.now(UTC) - timedelta(hours=1))
    await book.append(lines(1200))

    follower = book.follow(LogQuery(task_id="t"), StoredTasks(database), settle_s=60)

    assert len(await asyncio.wait_for(texts(follower), 60)) == 1200


async def test_what_nobody_knows_cannot_be_followed(book: LogBook, database: Database) -> None:
    follower = book.follow(LogQuery(task_id="x"), StoredTasks(database), settle_s=0)

    with pytest.raises(NotFound, match="task 'x' not found"):
        await anext(follower)


async def test_fields_grow_with_the_lines(book: LogBook, database: Database) -> None:
    await add_task(database, "t")
    await book.append(lines(2, agent_id="a", rank_id=0))
    follower = book.follow_fields("t", StoredTasks(database), settle_s=0)

    [first] = await next_of(follower, 1)
    assert (first.agent_ids, first.rank_ids, first.sources) == ({"a"}, {0}, set())
    waiting = asyncio.ensure_future(next_of(follower, 1))
    await book.append(lines(1, agent_id="a", rank_id=0))  # nothing new in it
    await book.append(lines(1, agent_id="b", source="agent"))
    [second] = await waiting
    assert (second.agent_ids, second.sources) == ({"a", "b"}, {"agent"})

    await end_task(database, "t")
    book.announce_end("t")
    assert [fields async for fields in follower] == []


async def test_a_full_disk_is_told_and_the_book_goes_on_after_it(
    book: LogBook, database: Database
) -> None:
    async with database.writing() as session:
        pages = await session.scalar(text("PRAGMA page_count"))
        await session.execute(text(f"PRAGMA max_page_count={pages}"))
    with pytest.raises(Unavailable, match="full"):
        await book.append([LogLine(task_id="t", text=secrets.token_hex(500_000))])
    async with database.writing() as session:
        await session.execute(text("PRAGMA max_page_count=1000000"))

    await book.append(lines(1))

    assert await texts(book.read(LogQuery(task_id="t"))) == ["0"]


async def test_lines_that_cannot_be_stored_cost_those_of_others_nothing(book: LogBook) -> None:
    bad = LogLine(task_id="t", text="bad", agent_id="\ud800")  # no database keeps half a character
    appends = [book.append(lines(1)), book.append([bad]), book.append(lines(1, start=1))]

    first, second, third = await asyncio.gather(*appends, return_exceptions=True)

    assert (first, third) == (None, None)
    assert isinstance(second, Internal)
    assert await texts(book.read(LogQuery(task_id="t"))) == ["0", "1"]


async def test_a_closing_book_writes_what_waits_and_takes_no_more(database: Database) -> None:
    async with LogBook(database) as book:
        waiting = asyncio.ensure_future(book.append(lines(1)))
        await asyncio.sleep(0)  # it is in the queue, the writer has not begun

    await waiting
    assert await texts(book.read(LogQuery(task_id="t"))) == ["0"]
    with pytest.raises(Unavailable, match="stopping"):
        await book.append(lines(1))
