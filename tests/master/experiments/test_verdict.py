"""What the end of a run makes of a trial (task-environment.md 9.10)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shipway_master.allocations.exits import Ending, Failure, FailureType, Outcome
from shipway_master.experiments.states import RunState, get_end, stop
from shipway_master.experiments.verdict import Standing, judge
from shipway_master.tasks.states import LOST_RUNS_LIMIT

CRASH = Failure(type=FailureType.RESOURCES_FAILED, message="killed", exit_code=1)
FINISHED = Outcome(ending=Ending.FINISHED, reason="all exited", exit_code=0)
STOPPED = Outcome(ending=Ending.STOPPED, reason="preempted")
FAILED = Outcome(ending=Ending.FAILED, reason="failed", exit_code=1, failure=CRASH)
LOST = Outcome(
    ending=Ending.LOST,
    reason="agent gone",
    failure=Failure(type=FailureType.AGENT_FAILED, message="agent a is gone"),
)
ACTIVE = Standing(state=RunState.ACTIVE, restarts=0, max_restarts=2)


@pytest.mark.parametrize(
    ("standing", "outcome", "state", "restarts"),
    [
        pytest.param(ACTIVE, FINISHED, RunState.COMPLETED, 0, id="exit 0 completes"),
        pytest.param(ACTIVE, STOPPED, RunState.ACTIVE, 0, id="pre-empted: again"),
        pytest.param(ACTIVE, LOST, RunState.ACTIVE, 0, id="an agent that goes costs no restart"),
        pytest.param(ACTIVE, FAILED, RunState.ACTIVE, 1, id="a crash is tried again"),
        pytest.param(
            replace(ACTIVE, restarts=2), FAILED, RunState.ERROR, 3, id="as often as it may"
        ),
        pytest.param(
            replace(ACTIVE, max_restarts=0), FAILED, RunState.ERROR, 1, id="0 means one attempt"
        ),
        pytest.param(
            replace(ACTIVE, state=RunState.PAUSED), STOPPED, RunState.PAUSED, 0, id="paused: waits"
        ),
        pytest.param(
            replace(ACTIVE, state=RunState.PAUSED),
            FAILED,
            RunState.PAUSED,
            1,
            id="a crash while it is being paused counts",
        ),
        pytest.param(
            replace(ACTIVE, state=RunState.PAUSED),
            FINISHED,
            RunState.COMPLETED,
            0,
            id="done before it heard of the pause",
        ),
        pytest.param(
            replace(ACTIVE, state=RunState.STOPPING_CANCELED),
            STOPPED,
            RunState.CANCELED,
            0,
            id="cancelled",
        ),
        pytest.param(
            replace(ACTIVE, state=RunState.STOPPING_CANCELED),
            FAILED,
            RunState.ERROR,
            0,
            id="cancelled and crashed",
        ),
        pytest.param(
            replace(ACTIVE, state=RunState.STOPPING_COMPLETED),
            STOPPED,
            RunState.COMPLETED,
            0,
            id="the searcher has seen enough",
        ),
        pytest.param(
            replace(ACTIVE, state=RunState.STOPPING_KILLED),
            FAILED,
            RunState.CANCELED,
            0,
            id="killed, whatever it died of",
        ),
        pytest.param(
            replace(ACTIVE, has_left_early=True),
            FAILED,
            RunState.COMPLETED,
            0,
            id="it said that it cannot go on",
        ),
        pytest.param(
            replace(ACTIVE, are_retries_canceled=True),
            FAILED,
            RunState.ERROR,
            0,
            id="a log policy ends the retries",
        ),
        pytest.param(
            replace(ACTIVE, are_retries_canceled=True),
            STOPPED,
            RunState.ACTIVE,
            0,
            id="a pre-emption is no retry",
        ),
        pytest.param(
            replace(ACTIVE, lost_runs=LOST_RUNS_LIMIT),
            LOST,
            RunState.ERROR,
            0,
            id="runs that never run are given up",
        ),
    ],
)
def test_what_becomes_of_a_trial(
    standing: Standing, outcome: Outcome, state: RunState, restarts: int
) -> None:
    verdict = judge(standing, outcome)
    assert (verdict.state, verdict.restarts) == (state, restarts)


def test_a_job_that_slurm_never_took_is_not_submitted_again() -> None:
    failure = Failure(
        type=FailureType.RESOURCES_FAILED,
        message="sbatch: error: Batch job submission failed: Invalid partition name",
    )
    verdict = judge(ACTIVE, replace(FAILED, failure=failure))
    assert verdict.state is RunState.ERROR
    assert "Invalid partition" in verdict.text


def test_the_reason_of_a_failure_is_told() -> None:
    assert "killed (exit code 1)" in judge(replace(ACTIVE, max_restarts=0), FAILED).text


@pytest.mark.parametrize(
    ("before", "wish", "after"),
    [
        (RunState.ACTIVE, RunState.STOPPING_CANCELED, RunState.STOPPING_CANCELED),
        (RunState.STOPPING_CANCELED, RunState.STOPPING_KILLED, RunState.STOPPING_KILLED),
        (RunState.STOPPING_KILLED, RunState.STOPPING_CANCELED, RunState.STOPPING_KILLED),
        (RunState.COMPLETED, RunState.STOPPING_KILLED, RunState.COMPLETED),
    ],
)
def test_a_kill_may_follow_a_cancel_and_not_the_other_way_round(
    before: RunState, wish: RunState, after: RunState
) -> None:
    assert stop(before, wish) is after


def test_whatever_has_no_task_ends_as_canceled() -> None:
    assert get_end(RunState.PAUSED) is RunState.CANCELED
    assert get_end(RunState.STOPPING_ERROR) is RunState.ERROR
