"""Which agents a request is placed on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shipway_master.agents import fitting
from shipway_master.agents.fitting import FittingPolicy, Room, Want, fit, is_possible, take
from shipway_master.allocations.ids import AgentId


def room(name: str, free: int, *, slots: int = 4, aux: int = 100, free_aux: int = 100) -> Room:
    """Make what an agent has."""
    return Room(
        agent_id=AgentId(name), slots=slots, free_slots=free, aux_total=aux, free_aux=free_aux
    )


def want(slots: int, *, single: bool = False) -> Want:
    """Make what a request needs."""
    return Want(key="task1", slots=slots, is_single_agent=single)


@pytest.mark.parametrize(
    ("policy", "chosen"), [(FittingPolicy.BEST, "full"), (FittingPolicy.WORST, "empty")]
)
def test_best_fills_up_and_worst_spreads(policy: FittingPolicy, chosen: str) -> None:
    rooms = [room("empty", 4), room("full", 1), room("half", 2)]
    assert fit(want(1), rooms, policy=policy) == {chosen: 1}


def test_one_agent_with_the_room_is_preferred_to_several() -> None:
    rooms = [room("a", 2, slots=2), room("b", 2, slots=2), room("big", 8, slots=8)]
    assert fit(want(4), rooms) == {"big": 4}


def test_a_big_request_takes_whole_unused_agents_of_one_size() -> None:
    rooms = [room("a", 4), room("b", 4), room("used", 3), room("small", 2, slots=2)]
    assert fit(want(8), rooms) == {"a": 4, "b": 4}


@pytest.mark.parametrize("slots", [6, 12])
def test_what_does_not_divide_is_not_placed(slots: int) -> None:
    assert fit(want(slots), [room("a", 4), room("b", 4)]) is None


@pytest.mark.parametrize(
    ("slots", "sizes", "placed"),
    [
        (12, [8, 4, 4, 2], [8, 4]),
        (14, [8, 4, 4, 2], [8, 4, 2]),
        (8, [4, 4, 5], [4, 4]),
        (6, [4, 4], None),
        (7, [5, 4, 3], None),  # what is left of 5 is less than any other has
        (3, [2, 1], [2, 1]),
    ],
)
def test_sizes_are_mixed_where_that_is_allowed(
    slots: int, sizes: list[int], placed: list[int] | None
) -> None:
    rooms = [room(f"a{number}", size, slots=size) for number, size in enumerate(sizes)]
    mixing = Want(key="task1", slots=slots, may_mix_sizes=True)

    found = fit(mixing, rooms)

    assert (found and sorted(found.values(), reverse=True)) == placed
    assert is_possible(mixing, sizes) == (placed is not None)
    assert fit(replace(mixing, is_single_agent=True), rooms) is None


def test_a_used_agent_is_no_part_of_a_mixture() -> None:
    rooms = [room("a", 4), room("b", 2), room("c", 2, slots=2)]
    assert fit(Want(key="task1", slots=8, may_mix_sizes=True), rooms) is None
    assert fit(Want(key="task1", slots=6, may_mix_sizes=True), rooms) == {"a": 4, "c": 2}


def test_a_request_for_one_agent_never_gets_two() -> None:
    assert fit(want(8, single=True), [room("a", 4), room("b", 4)]) is None


def test_excluded_agents_are_not_used_however_well_they_fit() -> None:
    rooms = [room("a", 4), room("b", 4), room("c", 2, slots=2)]
    assert fit(Want(key="task1", slots=2, excluded=("c", "b")), rooms) == {"a": 2}
    assert fit(Want(key="task1", slots=8, excluded=("b",)), rooms) is None


def test_without_slots_the_number_of_containers_counts() -> None:
    rooms = [room("full", 0, free_aux=0), room("a", 0, free_aux=1)]
    assert fit(want(0), rooms) == {"a": 0}
    assert fit(want(0), take(rooms, {AgentId("a"): 0})) is None


def test_a_placement_leaves_less_room() -> None:
    rooms = take([room("a", 4), room("b", 4)], {AgentId("a"): 3})
    assert [one.free_slots for one in rooms] == [1, 4]


def test_equal_agents_are_chosen_by_the_known_distance() -> None:
    # Vectors of the contract.
    distance = fitting._distance
    assert distance("task1", AgentId("agent1")) == 2805219845890618697
    assert distance("task1", AgentId("agent2")) == 7759154396990585115
    assert fit(want(1), [room("agent2", 4), room("agent1", 4)]) == {"agent1": 1}


@pytest.mark.parametrize(
    ("slots", "single", "sizes", "possible"),
    [
        (4, True, [4, 2], True),
        (5, True, [4, 4], False),
        (8, False, [4, 4], True),
        (8, False, [4, 2, 2], False),
        (0, True, [0], True),
        (1, False, [], False),
    ],
)
def test_whether_it_could_ever_fit(
    slots: int, single: bool, sizes: list[int], possible: bool
) -> None:
    assert is_possible(want(slots, single=single), sizes) is possible
