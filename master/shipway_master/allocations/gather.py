"""All-gather: every peer brings its data and gets the data of all.

One group at a time per allocation. A peer is known by the id that it sends with its request, so
that a request repeated over a new connection takes the place of the old one, and one whose answer
was lost after the group was complete gets the same answer again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import UUID

from shipway_master.allocations.errors import AllocationEnded, CallSuperseded, InvalidCall
from shipway_master.allocations.ids import AllocationId

Data = TypeVar("Data")
Answer = TypeVar("Answer")


@dataclass(eq=False, slots=True)
class _Peer(Generic[Data, Answer]):
    """One waiting call; told apart from a repeated call of the same peer by its identity."""

    data: Data
    answer: asyncio.Future[Answer]


@dataclass(eq=False, slots=True)
class _Group(Generic[Data, Answer]):
    created_at: float
    num_peers: int
    peers: dict[UUID, _Peer[Data, Answer]] = field(default_factory=dict[UUID, _Peer[Data, Answer]])
    warned: bool = False


@dataclass(frozen=True, slots=True)
class _Complete(Generic[Answer]):
    peers: frozenset[UUID]
    answer: Answer


class Gathers(Generic[Data, Answer]):
    """The all-gather groups of all allocations.

    Args:
        rank_of: The rank that a peer's data names, if it names one. When all peers of a group do,
            the data is put into rank order, else it stays in the order of arrival.
        combine: Makes the answer of the data of all; called once per group, for all its peers.
        on_slow: Called once per group that is still incomplete after *warn_after_s*, with the
            allocation, the number of peers that came and the number expected.
        warn_after_s: How long a group may wait before it is called slow, in seconds.
    """

    def __init__(
        self,
        *,
        rank_of: Callable[[Data], int | None],
        combine: Callable[[list[Data]], Answer],
        on_slow: Callable[[AllocationId, int, int], Awaitable[None]],
        warn_after_s: float = 600.0,
    ) -> None:
        self._rank_of = rank_of
        self._combine = combine
        self._on_slow = on_slow
        self._warn_after_s = warn_after_s
        self._groups: dict[AllocationId, _Group[Data, Answer]] = {}
        self._complete: dict[AllocationId, _Complete[Answer]] = {}

    async def join(
        self, allocation_id: AllocationId, peer_id: UUID, *, num_peers: int, data: Data
    ) -> Answer:
        """Wait until *num_peers* different peers have come and return the answer for all.

        Cancelling the call takes the peer and its data out of the group. When peers disagree about
        their number, the newest call is believed.

        Raises:
            InvalidCall: *num_peers* is not positive.
            CallSuperseded: The same peer called again.
            AllocationEnded: The allocation ended first.
        """
        if num_peers < 1:
            raise InvalidCall(f"num_peers must be positive, it is {num_peers}")
        complete = self._complete.get(allocation_id)
        if complete is not None and peer_id in complete.peers:
            return complete.answer
        group = self._groups.get(allocation_id)
        if group is None:
            group = _Group[Data, Answer](asyncio.get_running_loop().time(), num_peers)
            self._groups[allocation_id] = group
        peer = self._enter(group, peer_id, data)
        group.num_peers = num_peers
        if len(group.peers) >= num_peers:
            self._finish(allocation_id, group)
        try:
            return await self._wait(allocation_id, group, peer)
        finally:
            self._leave(allocation_id, group, peer_id, peer)

    def close(self, allocation_id: AllocationId) -> None:
        """Forget an allocation that ended; who still waits gets `AllocationEnded`."""
        self._complete.pop(allocation_id, None)
        group = self._groups.pop(allocation_id, None)
        for peer in group.peers.values() if group is not None else ():
            if not peer.answer.done():
                peer.answer.set_exception(AllocationEnded(allocation_id))

    def _enter(self, group: _Group[Data, Answer], peer_id: UUID, data: Data) -> _Peer[Data, Answer]:
        older = group.peers.get(peer_id)
        if older is not None and not older.answer.done():
            older.answer.set_exception(
                CallSuperseded(f"peer {peer_id} called again; this call is no longer answered")
            )
        peer = _Peer[Data, Answer](data, asyncio.get_running_loop().create_future())
        group.peers[peer_id] = peer
        return peer

    def _finish(self, allocation_id: AllocationId, group: _Group[Data, Answer]) -> None:
        data = [peer.data for peer in group.peers.values()]
        ranked = [(rank, item) for item in data if (rank := self._rank_of(item)) is not None]
        if len(ranked) == len(data):
            data = [item for _, item in sorted(ranked, key=lambda pair: pair[0])]
        del self._groups[allocation_id]
        answer = self._combine(data)
        self._complete[allocation_id] = _Complete(frozenset(group.peers), answer)
        for peer in group.peers.values():
            if not peer.answer.done():
                peer.answer.set_result(answer)

    async def _wait(
        self, allocation_id: AllocationId, group: _Group[Data, Answer], peer: _Peer[Data, Answer]
    ) -> Answer:
        if not group.warned:
            left_s = group.created_at + self._warn_after_s - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait([peer.answer], timeout=max(0.0, left_s))
            if not done and not group.warned:
                group.warned = True
                await self._on_slow(allocation_id, len(group.peers), group.num_peers)
        return await peer.answer

    def _leave(
        self,
        allocation_id: AllocationId,
        group: _Group[Data, Answer],
        peer_id: UUID,
        peer: _Peer[Data, Answer],
    ) -> None:
        if group.peers.get(peer_id) is peer:
            del group.peers[peer_id]
        if not group.peers and self._groups.get(allocation_id) is group:
            del self._groups[allocation_id]
