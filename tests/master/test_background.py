"""What runs in the background: it ends with its owner, whenever it was begun."""

from __future__ import annotations

import asyncio

import pytest

from shipway_master.background import Background


async def test_work_that_runs_is_cancelled_when_the_block_is_left() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async with Background() as background:
        task = background.start(work(), name="work")
        await asyncio.sleep(0)

    assert ended == ["work"]
    assert task.cancelled()


async def test_work_that_has_not_begun_when_the_block_is_left_never_does() -> None:
    begun: list[str] = []

    async def work() -> None:
        begun.append("work")

    async with Background() as background:
        background.start(work(), name="work")

    assert begun == []


async def test_nothing_begins_once_the_block_is_left() -> None:
    begun: list[str] = []

    async def work(name: str) -> None:
        begun.append(name)

    async def begin_more() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            background.start(work("while it is left"), name="more")

    async with Background() as background:
        background.start(begin_more(), name="more to begin")
        await asyncio.sleep(0)
    late = background.start(work("later"), name="later")
    with pytest.raises(asyncio.CancelledError):
        await late

    assert begun == []
