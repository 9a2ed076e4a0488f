"""Who gets slots first, and who must leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shipway_master.agents.fitting import Room, Want
from shipway_master.agents.queue import Holding, Waiting, keep_within_limits
from shipway_master.agents.schedule import decide
from shipway_master.allocations.ids import AgentId, AllocationId

START = datetime(2026, 1, 1, tzinfo=UTC)
A = AgentId("a")


def rooms(free: int, *, slots: int = 4) -> list[Room]:
    """One agent."""
    return [Room(agent_id=A, slots=slots, free_slots=free, aux_total=2, free_aux=2)]


def waiting(name: str, slots: int, *, priority: int = 42, minute: int = 0) -> Waiting:
    """A request in the queue."""
    return Waiting(
        allocation_id=AllocationId(name),
        want=Want(key=name, slots=slots, is_single_agent=True),
        priority=priority,
        submitted_at=START + timedelta(minutes=minute),
    )


def holding(
    name: str, slots: int, *, priority: int = 50, minute: int = 0, preemptible: bool = True,
    leaving: bool = False,
) -> Holding:  # fmt: skip
    """A request with resources."""
    return Holding(
        allocation_id=AllocationId(name),
        placement={A: slots},
        priority=priority,
        submitted_at=START + timedelta(minutes=minute),
        is_preemptible=preemptible,
        is_leaving=leaving,
    )


def test_first_come_first_served() -> None:
    decisions = decide([waiting("late", 4, minute=1), waiting("early", 4)], [], rooms(4))
    assert list(decisions.start) == ["early"]


def test_a_task_that_came_back_keeps_its_place() -> None:
    decisions = decide([waiting("task.2", 4), waiting("new", 4, minute=9)], [], rooms(4))
    assert list(decisions.start) == ["task.2"]


def test_a_smaller_priority_number_goes_first() -> None:
    urgent = waiting("urgent", 4, priority=1, minute=5)
    assert list(decide([waiting("usual", 4), urgent], [], rooms(4)).start) == ["urgent"]


def test_what_fits_passes_what_waits_for_more_room_in_its_own_priority() -> None:
    decisions = decide([waiting("big", 4), waiting("small", 1, minute=1)], [], rooms(2))
    assert list(decisions.start) == ["small"]


def test_nothing_of_a_lower_priority_passes() -> None:
    low = waiting("low", 1, priority=43, minute=1)
    assert not decide([waiting("big", 4), low], [], rooms(2)).start


def test_tasks_without_slots_do_not_wait_for_those_with() -> None:
    decisions = decide([waiting("big", 4), waiting("aux", 0, priority=90)], [], rooms(0))
    assert decisions.start == {"aux": {A: 0}}


def test_without_preemption_nobody_has_to_leave() -> None:
    assert not decide([waiting("urgent", 4, priority=1)], [holding("low", 4)], rooms(0)).preempt


def test_the_newest_of_the_lowest_priority_leaves_first() -> None:
    holders = [
        holding("old", 1, minute=0),
        holding("new", 1, minute=1),
        holding("mid", 1, priority=45, minute=2),
    ]
    decisions = decide([waiting("urgent", 2, priority=1)], holders, rooms(1), may_preempt=True)
    assert decisions.preempt == ["new"]


def test_no_one_leaves_when_it_would_not_help() -> None:
    holders = [holding("low", 1), holding("fixed", 3, preemptible=False)]
    decisions = decide([waiting("urgent", 4, priority=1)], holders, rooms(0), may_preempt=True)
    assert not decisions.preempt


def test_no_one_more_leaves_while_somebody_is_leaving() -> None:
    holders = [holding("going", 2, leaving=True), holding("other", 2)]
    decisions = decide([waiting("urgent", 2, priority=1)], holders, rooms(0), may_preempt=True)
    assert not decisions.preempt


def test_equal_priority_does_not_make_anybody_leave() -> None:
    decisions = decide(
        [waiting("a", 4, priority=50)], [holding("b", 4)], rooms(0), may_preempt=True
    )
    assert not decisions.preempt


def test_only_those_leave_whose_room_is_needed() -> None:
    """A search that goes by age alone would let go of those, too, who stand elsewhere."""
    b = AgentId("b")
    two = [*rooms(0), Room(agent_id=b, slots=4, free_slots=2, aux_total=2, free_aux=2)]
    holders = [
        replace(holding("newest", 2, minute=9), placement={A: 2}),
        replace(holding("newer", 1, minute=8), placement={b: 1}),
        replace(holding("old", 2, minute=1), placement={A: 2}),
        replace(holding("oldest", 1, minute=0), placement={b: 1}),
    ]
    decisions = decide([waiting("urgent", 4, priority=1)], holders, two, may_preempt=True)
    assert decisions.preempt == ["newest", "old"]


def test_a_job_gets_no_more_slots_than_it_may_have() -> None:
    def of_search(item: Waiting) -> Waiting:
        return replace(item, group="search", max_slots=3)

    queue = [of_search(waiting(name, 1, minute=minute)) for minute, name in enumerate("abcd")]
    other = waiting("other", 1, minute=9)
    running = replace(holding("first", 1), group="search")
    kept = keep_within_limits([other, *reversed(queue)], [running])
    assert [item.allocation_id for item in kept] == ["a", "b", "other"]
