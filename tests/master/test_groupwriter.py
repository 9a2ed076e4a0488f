"""Writing for many callers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from shipway_master.errors import Internal, InvalidArgument, MasterError, Unavailable
from shipway_master.groupwriter import GroupWriter, Waiting


class Database:
    """Takes numbers: below 0 it refuses them, at 13 it breaks, at 99 it is away."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []

    async def write(self, group: Sequence[Waiting[int]]) -> None:
        """Write all numbers or none."""
        numbers = [one.item for one in group]
        await asyncio.sleep(0)
        if 13 in numbers:
            raise ValueError("13")
        if 99 in numbers:
            raise Unavailable("away")
        for one in group:
            if one.item < 0:
                one.refusal = InvalidArgument("below 0")
        self.groups.append([number for number in numbers if number >= 0])


async def put(writer: GroupWriter[int], number: int) -> type[MasterError] | None:
    """Have a number written; return what it was refused with."""
    try:
        await writer.put(number)
    except MasterError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("numbers", "answers", "groups"),
    [
        ([1, 2, 3, 4, 5], [None] * 5, [[1, 2, 3], [4, 5]]),
        ([1, -2, 3], [None, InvalidArgument, None], [[1, 3]]),
        ([1, 13, -3], [None, Internal, InvalidArgument], [[1], []]),
        ([1, 99, 3], [Unavailable] * 3, []),
    ],
    ids=["together", "refused", "broken", "away"],
)
async def test_each_caller_is_told_of_his_own(
    numbers: list[int], answers: list[type[MasterError] | None], groups: list[list[int]]
) -> None:
    database = Database()

    async with GroupWriter(database.write, name="numbers", at_once=3) as writer:
        told = await asyncio.gather(*(put(writer, number) for number in numbers))

    assert (told, database.groups) == (answers, groups)


async def test_what_waits_at_the_end_is_written_and_nothing_after_it() -> None:
    database = Database()
    writer = GroupWriter(database.write, name="numbers", at_once=1)
    async with writer:
        waiting = [asyncio.ensure_future(put(writer, number)) for number in (1, 2)]
        await asyncio.sleep(0)

    assert [one.result() for one in waiting] == [None, None]
    assert database.groups == [[1], [2]]
    assert await put(writer, 3) is Unavailable
