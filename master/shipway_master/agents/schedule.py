"""Scheduling by priority: who gets slots, and who must leave for whom; pure decisions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from shipway_master.agents.fitting import FittingPolicy, Room, fit, take
from shipway_master.agents.makeroom import make_room
from shipway_master.agents.queue import Decisions, Holding, Waiting, queue_order


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
        kind = [item for item in waiting if (item.slots > 0) == needs_slots]
        rivals = [item for item in holding if (item.slots > 0) == needs_slots]
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
    def find_candidates(item: Waiting) -> list[Holding]:
        """Find those of a lower priority, the newest of the lowest first."""
        lower = [
            other
            for other in holding
            if other.is_preemptible and not other.is_leaving and other.priority > item.priority
        ]
        return sorted(lower, key=queue_order, reverse=True)

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
                make_room(
                    unplaced,
                    [item for item in holding if item.is_leaving],
                    free,
                    policy=policy,
                    find_candidates=find_candidates,
                    decisions=decisions,
                )
            return free
    return free
