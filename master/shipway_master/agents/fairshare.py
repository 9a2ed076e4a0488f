"""Scheduling by fair share: each job gets slots in proportion to its weight; pure decisions."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shipway_master.agents.fitting import FittingPolicy, Room, fit, take
from shipway_master.agents.makeroom import give_back, make_room
from shipway_master.agents.queue import Decisions, Holding, Waiting, queue_order
from shipway_master.allocations.ids import AgentId


def decide_fairly(
    waiting: Sequence[Waiting],
    holding: Sequence[Holding],
    rooms: Sequence[Room],
    *,
    policy: FittingPolicy = FittingPolicy.BEST,
) -> Decisions:
    """Hand out the slots by progressive filling, and place what got its share.

    Again and again the job with the smallest share (slots by weight; the older one of two) is
    granted its next request, those that run already first, until no request fits into what is
    left. What was granted and finds no place makes preemptible requests leave that were not.
    Requests without slots start wherever they fit.
    """
    decisions = Decisions()
    free = list(rooms)
    for item in sorted((one for one in waiting if not one.slots), key=_by_age):
        placement = fit(item.want, free, policy=policy)
        if placement is not None:
            decisions.start[item.allocation_id] = placement
            free = take(free, placement)

    holders = [one for one in holding if one.slots]
    granted, losers = _grant([one for one in waiting if one.slots], holders, rooms, policy)
    unplaced: list[Waiting] = []
    for item in granted:
        placement = fit(item.want, free, policy=policy)
        if placement is None:
            unplaced.append(item)
        else:
            decisions.start[item.allocation_id] = placement
            free = take(free, placement)
    losers.sort(key=_by_age, reverse=True)
    make_room(
        unplaced,
        [one for one in holders if one.is_leaving],
        free,
        policy=policy,
        find_candidates=lambda _: losers,
        decisions=decisions,
    )
    return decisions


@dataclass(slots=True)
class _Job:
    """What a job has been granted, and what it still wants, in its order."""

    weight: float
    submitted_at: datetime
    share: int = 0
    wanted: list[Waiting | Holding] = field(default_factory=list["Waiting | Holding"])


def _grant(
    waiting: Sequence[Waiting],
    holders: Sequence[Holding],
    rooms: Sequence[Room],
    policy: FittingPolicy,
) -> tuple[list[Waiting], list[Holding]]:
    """Say which waiting requests should have slots, and which holders should not."""
    movable = [one for one in holders if one.is_preemptible and not one.is_leaving]
    fixed = [one for one in holders if not one.is_preemptible and not one.is_leaving]
    emptied = give_back(rooms, [one for one in holders if one not in fixed])
    left = sum(room.free_slots for room in emptied)
    agents = {room.agent_id for room in rooms}
    # What could not be placed even then would hold a share and leave it unused.
    possible = [one for one in waiting if fit(one.want, emptied, policy=policy) is not None]

    wanted: list[Waiting | Holding] = [
        *sorted(movable, key=_by_age),
        *sorted(possible, key=_by_age),
    ]
    jobs: dict[str, _Job] = {}
    for item in wanted:
        job = jobs.setdefault(item.group, _Job(item.weight, item.submitted_at))
        job.wanted.append(item)
    held = defaultdict[str, int](int)
    for one in fixed:
        held[one.group] += one.slots
    for group, job in jobs.items():
        job.share = held[group]
        job.wanted.reverse()

    def place(group: str) -> tuple[float, datetime, str]:
        job = jobs[group]
        return (job.share / job.weight, job.submitted_at, group)

    granted: list[Waiting] = []
    kept: set[str] = set()
    heap = [place(group) for group in jobs]
    heapq.heapify(heap)
    while heap:
        group = heapq.heappop(heap)[-1]
        job = jobs[group]
        item = job.wanted.pop()
        taken = _count_slots(item, agents)
        if taken <= left:
            left -= taken
            job.share += item.slots
            if isinstance(item, Waiting):
                granted.append(item)
            else:
                kept.add(item.allocation_id)
        if job.wanted:
            heapq.heappush(heap, place(group))
    return granted, [one for one in movable if one.allocation_id not in kept]


def _count_slots(item: Waiting | Holding, agents: Collection[AgentId]) -> int:
    """How many slots of these agents it takes; what stands on one that is draining takes none."""
    if isinstance(item, Waiting):
        return item.slots
    return sum(slots for agent_id, slots in item.placement.items() if agent_id in agents)


def _by_age(item: Waiting | Holding) -> tuple[datetime, str]:
    return queue_order(item)[1:]
