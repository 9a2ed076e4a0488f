"""Rendezvous: the containers of one allocation wait for each other and learn the addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from shipway_master.allocations.errors import (
    AllocationEnded,
    AllocationError,
    CallSuperseded,
    UnknownResources,
)
from shipway_master.allocations.ids import AllocationId, ResourcesId

RENDEZVOUS_PORTS = range(1734, 1766)
"""A container is reached at its single published port in this range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One port of a container, from inside and as seen from other hosts."""

    container_ip: str
    container_port: int
    host_ip: str
    host_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RendezvousInfo:
    """What each container learns; the lists are in rank order."""

    addresses: tuple[str, ...]
    slots: tuple[int, ...]
    rank: int


def find_rendezvous_host(addresses: Sequence[Address]) -> str | None:
    """The host of the one address whose container port is meant for this, None if not one."""
    fitting = [item for item in addresses if item.container_port in RENDEZVOUS_PORTS]
    return fitting[0].host_ip if len(fitting) == 1 else None


def rank_resources(slots: Sequence[tuple[ResourcesId, int]]) -> list[ResourcesId]:
    """Order the resources of an allocation by rank: the smallest share is the chief.

    Fact: task-environment.md 9.3.
    """
    return [resources_id for resources_id, _ in sorted(slots, key=lambda item: item[1])]


class Rendezvous:
    """The meeting of one allocation's containers.

    It is complete when every container has said where it can be reached and every container is
    waiting here; the result is then kept, so that a repeated call is answered at once.

    Args:
        slots: Slot count of each container, in any order.
        on_slow: Called once when not complete *warn_after_s* after the first watcher came, with
            the number of watchers and of containers.
    """

    def __init__(
        self,
        allocation_id: AllocationId,
        slots: Sequence[tuple[ResourcesId, int]],
        *,
        on_slow: Callable[[int, int], Awaitable[None]],
        warn_after_s: float = 600.0,
    ) -> None:
        self._allocation_id = allocation_id
        self._slots = dict(slots)
        self._ranked = rank_resources(slots)
        self._on_slow = on_slow
        self._warn_after_s = warn_after_s
        self._hosts: dict[ResourcesId, str | None] = {}
        self._exited: set[ResourcesId] = set()
        self._watchers: dict[ResourcesId, asyncio.Future[RendezvousInfo]] = {}
        self._result: tuple[tuple[str, ...], tuple[int, ...]] | None = None
        self._first_at: float | None = None
        self._warned = False

    async def watch(self, resources_id: ResourcesId) -> RendezvousInfo:
        """Wait for the others. Cancelling takes the caller out; it may come again.

        Raises:
            UnknownResources: The container is not one of this allocation.
            CallSuperseded: The same container called again.
            AllocationError: This container cannot be reached by the others.
            AllocationEnded: The allocation ended first.
        """
        if resources_id not in self._slots:
            raise UnknownResources(self._allocation_id, resources_id)
        if self._result is not None:
            return self._make_info(resources_id)
        loop = asyncio.get_running_loop()
        older = self._watchers.get(resources_id)
        if older is not None and not older.done():
            older.set_exception(CallSuperseded(f"{resources_id} asked again for its rendezvous"))
        answer: asyncio.Future[RendezvousInfo] = loop.create_future()
        self._watchers[resources_id] = answer
        self._first_at = self._first_at or loop.time()
        self._try_complete()
        try:
            return await self._wait(answer)
        finally:
            if self._watchers.get(resources_id) is answer:
                del self._watchers[resources_id]

    def set_started(self, resources_id: ResourcesId, addresses: Sequence[Address]) -> None:
        """Note that a container runs and where it is reached."""
        if resources_id in self._slots and self._hosts.get(resources_id) is None:
            self._hosts[resources_id] = find_rendezvous_host(addresses)
            self._try_complete()

    def set_exited(self, resources_id: ResourcesId) -> None:
        """Note that a container is gone: an incomplete meeting cannot complete any more."""
        self._exited.add(resources_id)

    @property
    def is_complete(self) -> bool:
        """Whether every container got its answer once."""
        return self._result is not None

    def close(self) -> None:
        """End all waiting calls; the allocation is over."""
        for answer in self._watchers.values():
            if not answer.done():
                answer.set_exception(AllocationEnded(self._allocation_id))

    def _try_complete(self) -> None:
        if self._exited or len(self._watchers) < len(self._slots):
            return
        if len(self._hosts) < len(self._slots):
            return
        hosts: list[str] = []
        for resources_id in self._ranked:
            host = self._hosts[resources_id]
            if host is None:
                self._fail(resources_id)
                return
            hosts.append(host)
        slots = tuple(self._slots[resources_id] for resources_id in self._ranked)
        self._result = (tuple(hosts), slots)
        for resources_id, answer in self._watchers.items():
            if not answer.done():
                answer.set_result(self._make_info(resources_id))

    def _fail(self, resources_id: ResourcesId) -> None:
        answer = self._watchers[resources_id]
        if not answer.done():
            ports = f"{RENDEZVOUS_PORTS.start} to {RENDEZVOUS_PORTS.stop - 1}"
            answer.set_exception(
                AllocationError(
                    f"container {resources_id} does not publish exactly one of the ports {ports}, "
                    "so the other containers cannot find it"
                )
            )

    def _make_info(self, resources_id: ResourcesId) -> RendezvousInfo:
        if self._result is None:
            raise AssertionError("only called when complete")
        addresses, slots = self._result
        return RendezvousInfo(
            addresses=addresses, slots=slots, rank=self._ranked.index(resources_id)
        )

    async def _wait(self, answer: asyncio.Future[RendezvousInfo]) -> RendezvousInfo:
        if not self._warned and self._first_at is not None:
            left_s = self._first_at + self._warn_after_s - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait([answer], timeout=max(0.0, left_s))
            if not done and not self._warned:
                self._warned = True
                await self._on_slow(len(self._watchers), len(self._slots))
        return await answer
