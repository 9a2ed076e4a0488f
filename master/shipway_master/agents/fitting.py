"""Which agents a request is placed on: pure functions over what each agent has free."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from shipway_master.allocations.ids import AgentId


class FittingPolicy(StrEnum):
    """Fill agents up (`best`, the default), or spread over them (`worst`)."""

    BEST = "best"
    WORST = "worst"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one agent has, as the scheduler sees it."""

    agent_id: AgentId
    slots: int
    free_slots: int
    aux_total: int
    """How many containers without slots may run here at once."""
    free_aux: int

    @property
    def is_unused(self) -> bool:
        """Whether all its slots are free."""
        return self.free_slots == self.slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """What one request needs."""

    key: str
    """Any stable name; spreads equal choices over the agents."""
    slots: int
    is_single_agent: bool = False
    excluded: Collection[str] = ()
    """Agents that it must not be placed on."""
    may_mix_sizes: bool = False
    """Whether it may take whole agents of different sizes where those of one size do not do."""


Placement = Mapping[AgentId, int]
"""How many slots on which agents."""


def fit(
    want: Want, rooms: Sequence[Room], *, policy: FittingPolicy = FittingPolicy.BEST
) -> Placement | None:
    """Find agents for a request; None when it cannot be placed now.

    One agent that has the room is always preferred. A request for several slots that is not bound
    to one agent may else take whole unused agents of one size that divides it, or, if it may mix
    them, of several sizes.
    """
    rooms = [room for room in rooms if room.agent_id not in want.excluded]
    one = _choose([room for room in rooms if _has_room(want, room)], want, policy, count=1)
    if one:
        return {one[0].agent_id: want.slots}
    if want.is_single_agent or want.slots <= 1:
        return None
    sizes: defaultdict[int, list[Room]] = defaultdict(list)
    for room in rooms:
        if room.is_unused and room.free_slots >= 1:
            sizes[room.free_slots].append(room)
    for size in sorted(sizes, reverse=True):
        if want.slots % size == 0 and len(sizes[size]) * size >= want.slots:
            chosen = _choose(sizes[size], want, policy, count=want.slots // size)
            return {room.agent_id: size for room in chosen}
    return _mix(want, sizes, policy) if want.may_mix_sizes else None


def _mix(
    want: Want, sizes: Mapping[int, Sequence[Room]], policy: FittingPolicy
) -> Placement | None:
    """Take as many whole agents of each size as fit in, the largest size first.

    What is taken of one size is not given back for another, as Determined's scheduler has it: a
    larger agent that leaves a rest nobody fills is an end, even if smaller ones alone would do.
    """
    placement: dict[AgentId, int] = {}
    left = want.slots
    for size in sorted(sizes, reverse=True):
        chosen = _choose(sizes[size], want, policy, count=left // size)
        placement |= {room.agent_id: size for room in chosen}
        left -= size * len(chosen)
    return None if left else placement


def take(rooms: Sequence[Room], placement: Placement) -> list[Room]:
    """Return the rooms as they are once *placement* has been made."""
    return [_take_from(room, placement.get(room.agent_id)) for room in rooms]


def is_possible(want: Want, slots_per_agent: Collection[int]) -> bool:
    """Whether the agents could ever hold the request, were all their slots free."""
    return (
        fit(
            replace(want, excluded=()),
            [
                Room(agent_id=AgentId(str(n)), slots=s, free_slots=s, aux_total=1, free_aux=1)
                for n, s in enumerate(slots_per_agent)
            ],
        )
        is not None
    )


def _take_from(room: Room, slots: int | None) -> Room:
    if slots is None:
        return room
    if slots == 0:
        return replace(room, free_aux=room.free_aux - 1)
    return replace(room, free_slots=room.free_slots - slots)


def _has_room(want: Want, room: Room) -> bool:
    return room.free_slots >= want.slots and (want.slots > 0 or room.free_aux > 0)


def _choose(
    rooms: Sequence[Room], want: Want, policy: FittingPolicy, *, count: int
) -> Sequence[Room]:
    return sorted(
        rooms,
        key=lambda room: (
            -_score(want, room, policy),
            _distance(want.key, room.agent_id),
            room.agent_id,
        ),
    )[:count]


def _score(want: Want, room: Room, policy: FittingPolicy) -> float:
    by_slots = want.slots > 0 or not room.is_unused
    if policy is FittingPolicy.BEST:
        if by_slots:
            return 1 / (1 + room.free_slots)
        return 1 / (1 + room.free_aux) if room.aux_total else 0.0
    if by_slots:
        return room.free_slots / room.slots if room.slots else 0.0
    return room.free_aux / room.aux_total if room.aux_total else 0.0


def _distance(key: str, agent_id: AgentId) -> int:
    return int(_hash(key) - _hash(agent_id)) % 2**64


def _hash(text: str) -> int:
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little")
