"""All-gather: every rank of a job brings its data and gets the data of all, in rank order.

The relay brings the ranks together itself: with the master, each of N answers of N pieces would
travel twice. The master is told once, when all have come.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from uuid import UUID

from shipway_common.files import write_atomic
from shipway_launcher.relay.errors import BadRequest, PeerLost, RelayError, Superseded
from shipway_launcher.relay.messages import all_gather_json
from shipway_launcher.relay.ranks import MOST_RANKS, name_ranks
from shipway_proto.determined.api.v1 import trial_pb2 as api_trial

log = logging.getLogger(__name__)

_FILE = "gather"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherTiming:
    """How long to wait for whom, in seconds."""

    slow_after_s: float
    """A word in the task's log names the ranks that have not come."""
    return_within_s: float
    """A peer that lost its connection may come back for so long."""
    give_up_after_s: float | None
    """Those that have come wait for so long; None: as long as they like."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What all peers of one group get."""

    peers: frozenset[str]
    message: bytes
    """An AllocationAllGatherResponse."""

    @cached_property
    def json(self) -> bytes:
        """The same as the REST face says it; made when first asked for."""
        return all_gather_json(self.message)

    @property
    def key(self) -> str:
        """Names the group: the same after a restart."""
        return min(self.peers)


@dataclass(eq=False, slots=True)
class _Peer:
    request: api_trial.AllocationAllGatherRequest
    rank: int | None
    answer: asyncio.Future[Answer]


@dataclass(eq=False, slots=True)
class _Group:
    wanted: int
    timers: list[asyncio.TimerHandle] = field(default_factory=list[asyncio.TimerHandle])
    waiting: dict[str, _Peer] = field(default_factory=dict[str, _Peer])
    ids: dict[int, str] = field(default_factory=dict[int, str])
    """The newest id of each rank that named itself."""
    left: dict[str, tuple[int | None, asyncio.TimerHandle]] = field(
        default_factory=dict[str, tuple[int | None, asyncio.TimerHandle]]
    )
    """Peers whose callers are gone: the rank of each, and what ends the patience with it."""

    def forget_left(self, peer_id: str, rank: int | None) -> None:
        """Forget that a peer had left, or the same rank under an earlier id."""
        ids = [known for known, (its, _) in self.left.items() if rank is not None and its == rank]
        for known in {peer_id, *ids} & self.left.keys():
            self.left.pop(known)[1].cancel()

    def take_out(self, peer_id: str, rank: int | None) -> _Peer | None:
        """Take out a peer, or the same rank under an earlier id: its connection may be long dead."""
        known = peer_id if rank is None else self.ids.get(rank, peer_id)
        return self.waiting.pop(peer_id, None) or self.waiting.pop(known, None)

    def drop(self) -> None:
        """Stop waiting for anybody."""
        for timer in (*self.timers, *(patience for _, patience in self.left.values())):
            timer.cancel()


class Gathering:
    """The all-gathers of one allocation, one group at a time."""

    def __init__(
        self,
        folder: Path,
        timing: GatherTiming,
        *,
        nodes: Mapping[int, str],
        on_complete: Callable[[Answer], Awaitable[None]],
        on_trouble: Callable[[str], None],
    ) -> None:
        """Prepare.

        Args:
            folder: Where the last answer is kept, for those that did not get it before a crash.
            timing: How long to wait for whom.
            nodes: Where each rank runs, as far as that is known.
            on_complete: Tells the master; called for a group before anybody is answered.
            on_trouble: Told what whoever reads the task's log should know.
        """
        self._file, self._timing, self._nodes = folder / _FILE, timing, nodes
        self._on_complete, self._on_trouble = on_complete, on_trouble
        self._group: _Group | None = None
        self._complete: Answer | None = None

    def load(self) -> None:
        """Take up the answer of an earlier run; blocking.

        Raises:
            OSError: It cannot be read.
            ValueError: It is damaged.
        """
        try:
            head, _, message = self._file.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return
        known = json.loads(head)
        if known["version"] != _VERSION:
            raise ValueError(f"{self._file} is of version {known['version']}, not {_VERSION}")
        self._complete = Answer(peers=frozenset(known["peers"]), message=message)

    async def join(self, request: api_trial.AllocationAllGatherRequest) -> Answer:
        """Wait for all peers; a call that is repeated under its id gets what the first would get.

        Raises:
            BadRequest: The id is no UUID, or the number of peers not positive.
            Superseded: The same peer called again.
            PeerLost: Another peer is gone, or did not come.
        """
        peer_id = _peer_id(request)
        if self._complete is not None and peer_id in self._complete.peers:
            await self._on_complete(self._complete)
            return self._complete
        group = self._group
        if group is None:
            group = self._group = self._begin(request.num_peers)
        peer = self._enter(group, peer_id, request)
        group.wanted = request.num_peers
        if len(group.waiting) >= group.wanted:
            await self._finish(group)
        try:
            return await peer.answer
        finally:
            if not peer.answer.done() or peer.answer.cancelled():
                self._leave(group, peer_id, peer)

    @property
    def is_under_way(self) -> bool:
        """Whether some ranks have come, and others not."""
        return self._group is not None

    def close(self) -> None:
        """Stop waiting for anybody to come back."""
        if self._group is not None:
            self._group.drop()

    def refuse(self, error: RelayError) -> None:
        """End the wait of all with *error*."""
        group, self._group = self._group, None
        if group is not None:
            group.drop()
            _answer_all(group.waiting.values(), error)

    def _begin(self, wanted: int) -> _Group:
        loop, timing, group = asyncio.get_running_loop(), self._timing, _Group(wanted=wanted)
        group.timers.append(loop.call_later(timing.slow_after_s, self._note_slow, group))
        if timing.give_up_after_s is not None:
            group.timers.append(loop.call_later(timing.give_up_after_s, self._end_slow, group))
        return group

    def _enter(
        self, group: _Group, peer_id: str, request: api_trial.AllocationAllGatherRequest
    ) -> _Peer:
        rank = _rank(request)
        group.forget_left(peer_id, rank)
        older = group.take_out(peer_id, rank)
        if older is not None and not older.answer.done():
            who = f"peer {peer_id}" if rank is None else f"rank {rank}"
            older.answer.set_exception(
                Superseded(f"{who} called again; this call is no longer answered")
            )
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        peer = group.waiting[peer_id] = _Peer(request, rank, answer)
        if rank is not None:
            group.ids[rank] = peer_id
        _log_peer("a rank waits for an all-gather", group, rank)
        return peer

    async def _finish(self, group: _Group) -> None:
        """Answer all who wait; what they get is on disk before, and so is the word to the master."""
        self._group = None
        group.drop()
        answer = self._complete = _combine(group.waiting)
        # A peer that leaves meanwhile must not keep the others from their answer.
        await asyncio.shield(self._keep_and_tell(answer, group.waiting.values()))

    async def _keep_and_tell(self, answer: Answer, peers: Iterable[_Peer]) -> None:
        head = json.dumps({"version": _VERSION, "peers": sorted(answer.peers)}).encode()
        try:
            try:
                await asyncio.to_thread(write_atomic, self._file, head + b"\n" + answer.message)
            except OSError as error:
                log.warning(
                    "cannot keep an all-gather; a restart now would forget it",
                    extra={"file": str(self._file), "reason": str(error)},
                )
            await self._on_complete(answer)
        except RelayError as error:
            _answer_all(peers, error)
            self._complete = None
            return
        except Exception:
            _answer_all(peers, RelayError("the relay failed; its log says why"))
            raise
        for peer in peers:
            if not peer.answer.done():
                peer.answer.set_result(answer)

    def _leave(self, group: _Group, peer_id: str, peer: _Peer) -> None:
        if group is not self._group or group.waiting.get(peer_id) is not peer:
            return
        del group.waiting[peer_id]
        patience = asyncio.get_running_loop().call_later(
            self._timing.return_within_s, self._give_up, group, peer_id
        )
        group.left[peer_id] = (peer.rank, patience)
        _log_peer("a rank left an all-gather", group, peer.rank)

    def _give_up(self, group: _Group, peer_id: str) -> None:
        """End the wait of all for a peer that left."""
        rank, _ = group.left.pop(peer_id)
        if not group.waiting:
            if not group.left:
                group.drop()
                self._group = None
            return
        who = f"peer {peer_id}" if rank is None else name_ranks([rank], self._nodes)
        self._end(
            group,
            f"all-gather: {who} lost its connection and did not come back within"
            f" {self._timing.return_within_s:g} s; the others wait no longer",
        )

    def _end_slow(self, group: _Group) -> None:
        """End the wait of all because some have not come."""
        text = self._describe(group, self._timing.give_up_after_s or 0.0)
        self._end(group, f"{text}; the others wait no longer")

    def _end(self, group: _Group, text: str) -> None:
        group.drop()
        self._group = None
        self._on_trouble(text)
        _answer_all(group.waiting.values(), PeerLost(text))

    def _note_slow(self, group: _Group) -> None:
        self._on_trouble(self._describe(group, self._timing.slow_after_s))

    def _describe(self, group: _Group, after_s: float) -> str:
        ranks = {peer.rank for peer in group.waiting.values()}
        missing = [rank for rank in range(group.wanted) if rank not in ranks]
        text = f"all-gather: {len(group.waiting)} of {group.wanted} ranks have come within {after_s:g} s"
        if len(missing) == group.wanted - len(group.waiting):
            text += f"; missing: {name_ranks(missing, self._nodes)}"
        return text


def master_request(answer: Answer, allocation_id: str) -> bytes:
    """Make the call that tells the master of a complete group: one peer stands for all."""
    response = api_trial.AllocationAllGatherResponse.FromString(answer.message)
    return api_trial.AllocationAllGatherRequest(
        allocation_id=allocation_id,
        request_uuid=answer.key,
        num_peers=1,
        data=response.data[0],
    ).SerializeToString()


def _log_peer(text: str, group: _Group, rank: int | None) -> None:
    log.debug(text, extra={"rank": rank, "waiting": len(group.waiting), "wanted": group.wanted})


def _answer_all(peers: Iterable[_Peer], error: RelayError) -> None:
    for peer in peers:
        if not peer.answer.done():
            peer.answer.set_exception(error)
            peer.answer.exception()  # whoever waits gets it; if nobody does, that is no news


def _combine(peers: Mapping[str, _Peer]) -> Answer:
    """Put the data of all into the order of ranks, if each names its own."""
    order = list(peers.values())
    if all(peer.rank is not None for peer in order):
        order.sort(key=lambda peer: peer.rank or 0)
    response = api_trial.AllocationAllGatherResponse(data=[peer.request.data for peer in order])
    return Answer(peers=frozenset(peers), message=response.SerializeToString())


def _peer_id(request: api_trial.AllocationAllGatherRequest) -> str:
    if not 1 <= request.num_peers <= MOST_RANKS:
        raise BadRequest(f"numPeers: {request.num_peers} is not between 1 and {MOST_RANKS}")
    try:
        return str(UUID(request.request_uuid))
    except ValueError as error:
        raise BadRequest(f"requestUuid: {request.request_uuid[:200]!r} is no UUID") from error


def _rank(request: api_trial.AllocationAllGatherRequest) -> int | None:
    value = request.data.fields.get("rank")
    if value is None:
        return None
    match value.WhichOneof("kind"):
        case "number_value" if value.number_value.is_integer():
            return int(value.number_value)
        case "string_value" if value.string_value.isascii() and value.string_value.isdigit():
            return int(value.string_value)
        case _:
            return None
