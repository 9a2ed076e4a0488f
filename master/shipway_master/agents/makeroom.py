"""Who must leave so that others find room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from shipway_master.agents.fitting import FittingPolicy, Room, Want, fit, take
from shipway_master.agents.queue import Decisions, Holding, Waiting


def give_back(rooms: Sequence[Room], leaving: Sequence[Holding]) -> list[Room]:
    """Return the rooms as they are once *leaving* are gone."""
    result = {room.agent_id: room for room in rooms}
    for item in leaving:
        for agent_id, slots in item.placement.items():
            if (room := result.get(agent_id)) is None:
                continue  # it is on its way out: nothing is placed there
            if slots:
                free_slots = min(room.slots, room.free_slots + slots)
                result[agent_id] = replace(room, free_slots=free_slots)
            else:
                result[agent_id] = replace(room, free_aux=room.free_aux + 1)
    return list(result.values())


def make_room(
    unplaced: Sequence[Waiting],
    leaving: Sequence[Holding],
    free: Sequence[Room],
    *,
    policy: FittingPolicy,
    find_candidates: Callable[[Waiting], Sequence[Holding]],
    decisions: Decisions,
) -> None:
    """Choose who must leave for those that found no place; nobody, where that would not help.

    Args:
        unplaced: In the order in which they are served.
        leaving: Those that are about to go anyway.
        free: What is free now.
        find_candidates: Says who may have to leave for a request, the first to go first.
        decisions: Take in the choice.
    """
    room = give_back(free, leaving)
    for item in unplaced:
        placement = fit(item.want, room, policy=policy)
        if placement is not None:  # fits once those already leaving are gone: reserve it
            room = take(room, placement)
            continue
        candidates = [
            one for one in find_candidates(item) if one.allocation_id not in decisions.preempt
        ]
        chosen = _choose(item.want, candidates, room, policy)
        if chosen:
            decisions.preempt.extend(one.allocation_id for one in chosen)
            room = give_back(room, chosen)
            placement = fit(item.want, room, policy=policy)
            if placement is not None:
                room = take(room, placement)


def _choose(
    want: Want, candidates: Sequence[Holding], room: Sequence[Room], policy: FittingPolicy
) -> list[Holding]:
    """Take candidates until the request fits, and let those stay after all who need not go."""
    for count in range(1, len(candidates) + 1):
        chosen = list(candidates[:count])
        if fit(want, give_back(room, chosen), policy=policy) is None:
            continue
        for one in reversed(candidates[:count]):  # the last that should go is the first to stay
            without = [other for other in chosen if other is not one]
            if fit(want, give_back(room, without), policy=policy) is not None:
                chosen = without
        return chosen
    return []
