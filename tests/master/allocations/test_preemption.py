"""The preemption signal and the rank reports without a master around them."""

from __future__ import annotations

import asyncio

import pytest

from shipway_master.allocations.errors import InvalidCall
from shipway_master.allocations.preemption import Preemption, PreemptionCause
from shipway_master.allocations.ranks import RankReports


async def test_a_poll_without_time_answers_at_once() -> None:
    signal = Preemption()
    assert await signal.wait(0) is False
    assert signal.has_listener


async def test_a_waiting_poll_hears_the_signal_at_once() -> None:
    signal = Preemption()
    polls = [asyncio.create_task(signal.wait(60)) for _ in range(3)]
    await asyncio.sleep(0)
    assert signal.give(PreemptionCause.SCHEDULER)
    assert await asyncio.gather(*polls) == [True, True, True]
    assert await signal.wait(0) is True, "it never goes back"


async def test_a_poll_ends_with_its_time() -> None:
    assert await Preemption().wait(1) is False


async def test_the_first_cause_stays() -> None:
    signal = Preemption()
    assert signal.give(PreemptionCause.USER)
    assert not signal.give(PreemptionCause.SCHEDULER)
    assert signal.cause is PreemptionCause.USER


async def test_the_end_of_the_allocation_ends_a_poll_with_no() -> None:
    signal = Preemption()
    poll = asyncio.create_task(signal.wait(60))
    await asyncio.sleep(0)
    signal.close()
    assert await poll is False


async def test_a_signal_given_before_a_restart_is_still_given() -> None:
    assert await Preemption(cause=PreemptionCause.SCHEDULER).wait(60) is True


async def test_a_negative_time_is_refused() -> None:
    with pytest.raises(InvalidCall, match="timeout_seconds"):
        await Preemption().wait(-1)


def test_ranks_are_counted_once_and_named_in_order() -> None:
    ranks = RankReports()
    assert not ranks.are_all_running
    assert ranks.add(2, num_peers=3, node_name="n2")
    assert not ranks.add(2, num_peers=3, node_name="n2")
    assert ranks.add(0, num_peers=3, node_name="n1")
    assert ranks.describe() == "2 out of 3 containers running on nodes n1, n2"
    assert not ranks.are_all_running
    ranks.add(1, num_peers=3, node_name="n1")
    assert ranks.are_all_running


@pytest.mark.parametrize(("rank", "peers"), [(0, 0), (2, 2), (-1, 2)])
def test_a_rank_that_cannot_be_is_refused(rank: int, peers: int) -> None:
    with pytest.raises(InvalidCall):
        RankReports.require_possible(rank, num_peers=peers)
