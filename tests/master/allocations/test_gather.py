"""All-gather without a master around it."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID, uuid4

import pytest

from shipway_master.allocations.errors import AllocationEnded, CallSuperseded, InvalidCall
from shipway_master.allocations.gather import Gathers
from shipway_master.allocations.ids import AllocationId
from tests.master.running import until

ONE = AllocationId("task.1")
Data = dict[str, Any]


class Slow:
    """Remembers which groups were called slow."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int]] = []

    async def __call__(self, allocation_id: AllocationId, peers: int, wanted: int) -> None:
        self.heard.append((allocation_id, peers, wanted))


def make(slow: Slow | None = None, *, warn_after_s: float = 600.0) -> Gathers[Data, list[Data]]:
    """Make the groups of a master."""
    return Gathers(
        rank_of=lambda data: data.get("rank"),
        combine=lambda data: data,
        on_slow=slow or Slow(),
        warn_after_s=warn_after_s,
    )


def join(
    gathers: Gathers[Data, list[Data]], peers: int, data: Data, peer: UUID | None = None
) -> Any:
    """Let a peer join, as a task."""
    return asyncio.create_task(gathers.join(ONE, peer or uuid4(), num_peers=peers, data=data))


async def settle() -> None:
    """Let tasks that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_64_peers_get_everything_in_rank_order() -> None:
    gathers, ranks = make(), list(range(64))
    random.Random(1).shuffle(ranks)
    answers = await asyncio.gather(*(join(gathers, 64, {"rank": rank}) for rank in ranks))
    assert all(answer == [{"rank": rank} for rank in range(64)] for answer in answers)


async def test_without_ranks_the_order_is_that_of_arrival() -> None:
    gathers = make()
    answers = await asyncio.gather(*(join(gathers, 3, {"name": name}) for name in "cab"))
    assert [item["name"] for item in answers[0]] == ["c", "a", "b"]


async def test_one_peer_alone_gets_its_own_data_at_once() -> None:
    assert await make().join(ONE, uuid4(), num_peers=1, data={"a": 1}) == [{"a": 1}]


async def test_a_peer_that_goes_takes_its_data_with_it() -> None:
    gathers = make()
    gone = join(gathers, 2, {"rank": 0, "who": "gone"})
    await settle()
    gone.cancel()
    await asyncio.wait([gone])
    answers = await asyncio.gather(
        join(gathers, 2, {"rank": 0, "who": "new"}), join(gathers, 2, {"rank": 1, "who": "other"})
    )
    assert [item["who"] for item in answers[0]] == ["new", "other"]


async def test_a_repeated_call_replaces_the_older_one() -> None:
    gathers, peer = make(), uuid4()
    older = join(gathers, 2, {"rank": 0, "call": 1}, peer)
    await settle()
    newer = join(gathers, 2, {"rank": 0, "call": 2}, peer)
    with pytest.raises(CallSuperseded):
        await older
    await settle()
    assert not newer.done(), "the same peer does not count twice"
    other = join(gathers, 2, {"rank": 1, "call": 1})
    assert [item["call"] for item in await newer] == [2, 1]
    await other


async def test_the_end_of_a_replaced_call_does_not_remove_the_new_one() -> None:
    gathers, peer = make(), uuid4()
    older = join(gathers, 2, {"rank": 0}, peer)
    await settle()
    newer = join(gathers, 2, {"rank": 0}, peer)
    older.cancel()
    await asyncio.wait([older])
    await settle()
    other = join(gathers, 2, {"rank": 1})
    assert await newer == await other


async def test_an_answer_that_got_lost_is_given_again() -> None:
    gathers, peer = make(), uuid4()
    first = await asyncio.gather(join(gathers, 2, {"rank": 0}, peer), join(gathers, 2, {"rank": 1}))
    assert await gathers.join(ONE, peer, num_peers=2, data={"rank": 0}) == first[0]


async def test_a_second_gather_works_while_answers_of_the_first_are_on_their_way() -> None:
    gathers = make()
    firsts = [join(gathers, 2, {"rank": rank, "round": 1}) for rank in (0, 1)]
    seconds = [join(gathers, 2, {"rank": rank, "round": 2}) for rank in (0, 1)]
    assert {item["round"] for item in await firsts[0]} == {1}
    assert {item["round"] for item in await seconds[1]} == {2}
    await asyncio.gather(*firsts, *seconds)


async def test_the_newest_number_of_peers_is_believed() -> None:
    gathers = make()
    first = join(gathers, 3, {"rank": 0})
    await settle()
    second = join(gathers, 2, {"rank": 1})
    assert len(await first) == len(await second) == 2


async def test_a_group_that_does_not_complete_is_called_slow_once() -> None:
    slow = Slow()
    gathers = make(slow, warn_after_s=0.01)
    waiting = [join(gathers, 3, {"rank": rank}) for rank in (0, 1)]
    await until(lambda: bool(slow.heard))
    await settle()
    assert slow.heard == [("task.1", 2, 3)]
    assert not any(task.done() for task in waiting), "they go on waiting"
    last = join(gathers, 3, {"rank": 2})
    assert len(await last) == 3
    await asyncio.gather(*waiting)
    assert len(slow.heard) == 1


async def test_the_end_of_the_allocation_ends_the_waiting() -> None:
    gathers = make()
    waiting = join(gathers, 2, {})
    await settle()
    gathers.close(ONE)
    with pytest.raises(AllocationEnded):
        await waiting


@pytest.mark.parametrize("peers", [0, -1])
async def test_a_number_of_peers_that_cannot_be_is_refused(peers: int) -> None:
    with pytest.raises(InvalidCall, match="num_peers"):
        await make().join(ONE, uuid4(), num_peers=peers, data={})
