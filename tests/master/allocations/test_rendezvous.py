"""Rendezvous without a master around it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shipway_master.allocations.errors import (
    AllocationEnded,
    AllocationError,
    CallSuperseded,
    UnknownResources,
)
from shipway_master.allocations.ids import AllocationId, ResourcesId
from shipway_master.allocations.rendezvous import Address, Rendezvous, find_rendezvous_host
from tests.master.running import until

A, B, C = ResourcesId("a"), ResourcesId("b"), ResourcesId("c")


def address(port: int = 1734, host: str = "10.0.0.1") -> Address:
    """Make an address of a container."""
    return Address(container_ip="172.17.0.2", container_port=port, host_ip=host, host_port=32768)


def make(*slots: tuple[ResourcesId, int], heard: list[Any] | None = None, warn: float = 600) -> Any:
    """Make a meeting."""

    async def on_slow(*numbers: int) -> None:
        if heard is not None:
            heard.append(numbers)

    return Rendezvous(AllocationId("t.1"), slots, on_slow=on_slow, warn_after_s=warn)


def watch(meeting: Rendezvous, resources_id: ResourcesId) -> Any:
    """Let a container wait, as a task."""
    return asyncio.create_task(meeting.watch(resources_id))


async def settle() -> None:
    """Let tasks that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_lists_are_in_rank_order_and_the_smallest_share_is_the_chief() -> None:
    meeting = make((A, 1), (B, 4), (C, 2))
    waiting = {name: watch(meeting, name) for name in (A, B, C)}
    for number, name in enumerate((A, B, C)):
        meeting.set_started(name, [address(host=f"10.0.0.{number}")])
    infos = {name: await task for name, task in waiting.items()}
    assert {name: info.rank for name, info in infos.items()} == {A: 0, C: 1, B: 2}
    assert infos[A].addresses == ("10.0.0.0", "10.0.0.2", "10.0.0.1")
    assert infos[A].slots == (1, 2, 4)
    assert meeting.is_complete


async def test_it_waits_for_the_last_container_to_ask() -> None:
    meeting = make((A, 1), (B, 1))
    first = watch(meeting, A)
    for name in (A, B):
        meeting.set_started(name, [address()])
    await settle()
    assert not first.done()
    await watch(meeting, B)
    assert (await first).rank == 0


async def test_a_late_call_is_answered_from_the_stored_result() -> None:
    meeting = make((A, 1))
    meeting.set_started(A, [address()])
    first = await meeting.watch(A)
    assert await meeting.watch(A) == first


async def test_a_caller_that_goes_may_come_again() -> None:
    meeting = make((A, 1), (B, 1))
    gone = watch(meeting, A)
    await settle()
    gone.cancel()
    await asyncio.wait([gone])
    for name in (A, B):
        meeting.set_started(name, [address()])
    other = watch(meeting, B)
    await settle()
    assert not other.done()
    assert (await watch(meeting, A)).rank == 0
    await other


async def test_a_repeated_call_replaces_the_older_one() -> None:
    meeting = make((A, 1), (B, 1))
    older = watch(meeting, A)
    await settle()
    newer = watch(meeting, A)
    with pytest.raises(CallSuperseded):
        await older
    for name in (A, B):
        meeting.set_started(name, [address()])
    await watch(meeting, B)
    await newer


async def test_a_container_that_cannot_be_found_is_told_so() -> None:
    meeting = make((A, 1))
    meeting.set_started(A, [address(port=8888)])
    with pytest.raises(AllocationError, match="1734 to 1765"):
        await meeting.watch(A)


async def test_an_unknown_container_is_refused() -> None:
    with pytest.raises(UnknownResources, match="stale"):
        await make((A, 1)).watch(B)


async def test_the_end_of_the_allocation_ends_the_waiting() -> None:
    meeting = make((A, 1), (B, 1))
    waiting = watch(meeting, A)
    await settle()
    meeting.close()
    with pytest.raises(AllocationEnded):
        await waiting


async def test_slow_containers_are_named_once() -> None:
    heard: list[Any] = []
    meeting = make((A, 1), (B, 1), heard=heard, warn=0.01)
    waiting = watch(meeting, A)
    await until(lambda: bool(heard))
    assert heard == [(1, 2)]
    waiting.cancel()
    await asyncio.wait([waiting])


@pytest.mark.parametrize(
    ("ports", "host"),
    [
        ([1734], "10.0.0.1"),
        ([1765, 80], "10.0.0.1"),
        ([], None),
        ([80], None),
        ([1766], None),
        ([1734, 1735], None),
    ],
)
def test_exactly_one_port_of_the_range_makes_a_container_reachable(
    ports: list[int], host: str | None
) -> None:
    assert find_rendezvous_host([address(port) for port in ports]) == host
