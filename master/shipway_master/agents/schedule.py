"""In which order waiting requests get their slots, and who must leave for whom: pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from shipway_master.agents.fitting import FittingPolicy, Placement, Room, Want, fit, take
from shipway_master.allocations.ids import AllocationId


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A request that has no resources yet."""

    allocation_id: AllocationId
    want: Want
    priority: int
    """1 to 99; a smaller number is served first."""
    submitted_at: datetime
    """When the job was submitted: a task that comes back keeps its place."""
    is_preemptible: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A request that has resources."""

    allocation_id: AllocationId
    placement: Placement
    priority: int
    submitted_at: datetime
    is_preemptible: bool
    is_leaving: bool
    """Already asked to leave, or being killed: its room is as good as free."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one pass decided."""

    start: dict[AllocationId, Placement] = field(default_factory=dict[AllocationId, Placement])
    preempt: list[AllocationId] = field(default_factory=list[AllocationId])


def queue_order(item: Waiting | Holding) -> tuple[int, datetime, str]:
    """The sort key of the queue: priority, then time of submission."""
    return (item.priority, item.submitted_at, item.allocation_id)


def decide(
    waiting: Sequence[Waiting],
    holding: Sequence[Holding],
    rooms: Sequence[Room],
    *,
    policy: FittingPolicy = FittingPolicy.BEST,
    may_preempt: bool = False,
) -> Decisions:
    """Place what can be placed now, first come first served within a priority.

    A request that does not fit lets later ones of its own priority pass, as they would otherwise
    idle the agents, but no request of a lower priority; with *may_preempt* it may make preemptible
    ones of a lower priority leave. Requests with and without slots do not compete.
    """
    decisions = Decisions()
    free = list(rooms)
    for needs_slots in (True, False):
        kind = [item for item in waiting if (item.want.slots > 0) == needs_slots]
        rivals = [item for item in holding if (sum(item.placement.values()) > 0) == needs_slots]
        free = _decide_kind(kind, rivals, free, policy, may_preempt, decisions)
    return decisions


def _decide_kind(
    waiting: Sequence[Waiting],
    holding: Sequence[Holding],
    free: list[Room],
    policy: FittingPolicy,
    may_preempt: bool,
    decisions: Decisions,
) -> list[Room]:
    leaving = [item for item in holding if item.is_leaving]
    for _, level in groupby(sorted(waiting, key=queue_order), key=lambda item: item.priority):
        unplaced: list[Waiting] = []
        for item in level:
            placement = fit(item.want, free, policy=policy)
            if placement is None:
                unplaced.append(item)
                continue
            decisions.start[item.allocation_id] = placement
            free = take(free, placement)
        if unplaced:
            if may_preempt:
                _make_room(unplaced, holding, leaving, free, policy, decisions)
            return free
    return free


def _make_room(
    unplaced: Sequence[Waiting],
    holding: Sequence[Holding],
    leaving: list[Holding],
    free: Sequence[Room],
    policy: FittingPolicy,
    decisions: Decisions,
) -> None:
    """Choose who must leave, newest of the lowest priority first; none if that does not help."""
    room = _give_back(free, leaving)
    for item in unplaced:
        placement = fit(item.want, room, policy=policy)
        if placement is not None:  # fits once those already leaving are gone: reserve it
            room = take(room, placement)
            continue
        candidates = sorted(
            (
                other
                for other in holding
                if other.is_preemptible
                and not other.is_leaving
                and other.allocation_id not in decisions.preempt
                and other.priority > item.priority
            ),
            key=queue_order,
            reverse=True,
        )
        for count in range(1, len(candidates) + 1):
            tried = _give_back(room, candidates[:count])
            placement = fit(item.want, tried, policy=policy)
            if placement is not None:
                decisions.preempt.extend(other.allocation_id for other in candidates[:count])
                room = take(tried, placement)
                break


def _give_back(rooms: Sequence[Room], leaving: Sequence[Holding]) -> list[Room]:
    result = list(rooms)
    for item in leaving:
        returned = {agent: -slots if slots else 0 for agent, slots in item.placement.items()}
        result = [
            Room(
                agent_id=room.agent_id,
                slots=room.slots,
                free_slots=min(room.slots, room.free_slots - returned.get(room.agent_id, 0)),
                aux_total=room.aux_total,
                free_aux=room.free_aux + (returned.get(room.agent_id) == 0),
            )
            for room in result
        ]
    return result
