"""States only ever move on."""

from __future__ import annotations

import pytest

from shipway_master.allocations.ids import (
    MalformedAllocationId,
    TaskId,
    get_run,
    get_task_id,
    make_allocation_id,
    parse_allocation_id,
)
from shipway_master.allocations.life import AllocationState as A
from shipway_master.allocations.life import (
    ResourcesState,
    advance,
    advance_resources,
    get_allocation_state,
)


@pytest.mark.parametrize(
    ("current", "reported", "result"),
    [
        (A.PENDING, A.ASSIGNED, A.ASSIGNED),
        (A.RUNNING, A.PULLING, A.RUNNING),
        (A.WAITING, A.RUNNING, A.WAITING),
        (A.TERMINATING, A.RUNNING, A.TERMINATING),
        (A.TERMINATED, A.PENDING, A.TERMINATED),
    ],
)
def test_late_reports_do_not_move_a_state_back(current: A, reported: A, result: A) -> None:
    assert advance(current, reported) is result


def test_a_container_of_which_nothing_was_heard_may_be_in_any_state() -> None:
    for state in ResourcesState:
        assert advance_resources(ResourcesState.UNKNOWN, state) is state


def test_the_end_of_one_container_is_the_beginning_of_the_end() -> None:
    assert get_allocation_state(ResourcesState.TERMINATED) is A.TERMINATING


def test_a_trial_like_id_is_cut_at_its_last_dot() -> None:
    allocation_id = make_allocation_id(TaskId("7.2f6c"), 3)
    assert get_task_id(allocation_id) == "7.2f6c"
    assert get_run(allocation_id) == 3


def test_an_id_without_a_dot_is_refused() -> None:
    with pytest.raises(MalformedAllocationId, match="'nodot'"):
        parse_allocation_id("nodot")
