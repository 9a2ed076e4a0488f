"""What becomes of containers after their agent was away."""

from __future__ import annotations

import pytest

from shipway_master.agents.agent import PlacedContainer
from shipway_master.agents.messages import ContainerReport, Reattached, StartOrder
from shipway_master.agents.reattach import Fate, Verdict, judge
from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.ids import AllocationId, ResourcesId, TaskId
from shipway_master.allocations.life import ResourcesState as R

ONE = ResourcesId("one")
GONE = Failure(type=FailureType.RESTORE_ERROR, message="container is gone on reattachment")
SEVEN = Failure(type=FailureType.RESOURCES_FAILED, message="7", exit_code=7)


def judge_one(
    stored: R, answer: R | None, failure: Failure | None = None, *, ordered: bool = True
) -> Verdict:
    """Judge one container; *answer* None means that the agent did not speak of it."""
    container = PlacedContainer(
        id=ONE,
        allocation_id=AllocationId("t.1"),
        task_id=TaskId("t"),
        devices=(),
        state=stored,
        order=StartOrder(devices=(), description="", spec={}) if ordered else None,
    )
    answers = []
    if answer is not None:
        report = ContainerReport(id=ONE, state=answer)
        answers = [Reattached(container=report, failure=failure)]
    (verdict,) = judge([ONE], {ONE: container}, answers)
    return verdict


@pytest.mark.parametrize(
    ("stored", "answer"),
    [
        (R.RUNNING, R.RUNNING),
        (R.PULLING, R.RUNNING),
        (R.ASSIGNED, R.PULLING),
        (R.STARTING, R.STARTING),
    ],
)
def test_a_container_that_has_come_further_lives(stored: R, answer: R) -> None:
    verdict = judge_one(stored, answer)
    assert (verdict.fate, verdict.state) == (Fate.LIVES, answer)


def test_an_exit_during_the_gap_keeps_its_code() -> None:
    verdict = judge_one(R.RUNNING, R.TERMINATED, SEVEN)
    assert (verdict.fate, verdict.failure) == (Fate.ENDED, SEVEN)


def test_a_success_during_the_gap_is_one() -> None:
    verdict = judge_one(R.RUNNING, R.TERMINATED)
    assert (verdict.fate, verdict.failure) == (Fate.ENDED, None)


def test_a_container_that_is_gone_is_no_success() -> None:
    verdict = judge_one(R.RUNNING, R.UNKNOWN, GONE)
    assert (verdict.fate, verdict.failure) == (Fate.ENDED, GONE)


def test_a_container_that_the_agent_does_not_speak_of_is_lost() -> None:
    verdict = judge_one(R.RUNNING, None)
    assert verdict.fate is Fate.ENDED
    assert verdict.failure is not None
    assert verdict.failure.type is FailureType.AGENT_FAILED


def test_an_order_that_never_arrived_is_given_again() -> None:
    assert judge_one(R.ASSIGNED, R.UNKNOWN, GONE).fate is Fate.NEVER_ARRIVED


def test_an_order_that_nobody_knows_any_more_is_aborted_before_its_start() -> None:
    """Not lost while it ran: whoever wants it can safely order it anew."""
    verdict = judge_one(R.ASSIGNED, R.UNKNOWN, GONE, ordered=False)
    assert verdict.fate is Fate.ENDED
    assert verdict.failure is not None
    assert verdict.failure.type is FailureType.RESOURCES_ABORTED


def test_containers_placed_after_the_question_are_not_judged() -> None:
    assert judge([], {}, []) == []
