"""What one end means for the others, and all ends together for the task."""

from __future__ import annotations

import pytest

from shipway_master.allocations.exits import (
    EndFacts,
    Ending,
    Failure,
    FailureType,
    ShareFacts,
    Step,
    decide_after_exit,
    decide_outcome,
    parse_failure_type,
)

FAILED = Failure(
    type=FailureType.RESOURCES_FAILED,
    message="container failed with non-zero exit code: 7",
    exit_code=7,
)
KILLED = Failure(
    type=FailureType.RESOURCES_FAILED,
    message="container failed with non-zero exit code: 137",
    exit_code=137,
)
LOST = Failure(type=FailureType.AGENT_FAILED, message="agent closed with allocated containers")


def share(state: str, *, daemon: bool = False) -> ShareFacts:
    """Make a share: `runs`, `done` or `failed`."""
    return ShareFacts(
        is_started=True,
        is_daemon=daemon,
        is_exited=state != "runs",
        failure=FAILED if state == "failed" else None,
    )


@pytest.mark.parametrize(
    ("shares", "step"),
    [
        ([], Step.END),
        ([share("done")], Step.END),
        ([share("done"), share("failed")], Step.END),
        ([share("done"), share("runs")], Step.WAIT),
        ([share("failed"), share("runs")], Step.KILL_REST),
        ([share("done"), share("runs", daemon=True)], Step.KILL_DAEMONS),
        ([share("failed"), share("runs", daemon=True)], Step.KILL_DAEMONS),
        ([share("done"), share("runs"), share("runs", daemon=True)], Step.WAIT),
        ([share("runs"), share("failed", daemon=True)], Step.KILL_REST),
    ],
)
def test_what_follows_from_an_exit(shares: list[ShareFacts], step: Step) -> None:
    assert decide_after_exit(shares) is step


def facts(**changes: object) -> EndFacts:
    """Make the facts of an allocation that ended well."""
    values: dict[str, object] = {"failures": [], "exits": 1, "is_killed_while_running": False}
    return EndFacts(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "ending", "code"),
    [
        (facts(), Ending.FINISHED, 0),
        (facts(exits=0), Ending.STOPPED, None),
        (facts(failures=[FAILED]), Ending.FAILED, 7),
        (facts(failures=[KILLED]), Ending.FAILED, 137),
        (facts(failures=[LOST]), Ending.LOST, None),
        (facts(failures=[FAILED, LOST]), Ending.FAILED, 7),
        (
            facts(failures=[KILLED], is_killed_while_running=True, kill_reason="a wish"),
            Ending.STOPPED,
            137,
        ),
        (facts(is_preemption_acked=True), Ending.STOPPED, 0),
        (facts(failures=[FAILED], is_preemption_acked=True), Ending.STOPPED, 7),
        (facts(failures=[KILLED], is_lost_to_scheduler=True), Ending.STOPPED, 137),
        (facts(failures=[KILLED], daemons_killed_gracefully=True), Ending.FINISHED, 0),
    ],
)
def test_what_an_end_means(given: EndFacts, ending: Ending, code: int | None) -> None:
    outcome = decide_outcome(given)
    assert (outcome.ending, outcome.exit_code) == (ending, code)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            FAILED,
            (
                "allocation failed: resources failed with non-zero exit code: "
                "container failed with non-zero exit code: 7 (exit code 7)"
            ),
        ),
        (
            LOST,
            (
                "allocation failed due to agent failure: agent failed while the container was "
                "running: agent closed with allocated containers"
            ),
        ),
        (
            Failure(type=FailureType.RESTORE_ERROR, message="gone"),
            "allocation failed due to restore error: RM failed to restore the allocation: gone",
        ),
        (
            Failure(type=FailureType.RESOURCES_ABORTED, message="killed before run"),
            "allocation aborted: resources was aborted before it started: killed before run",
        ),
    ],
)
def test_the_reason_is_in_plain_words(failure: Failure, reason: str) -> None:
    assert decide_outcome(facts(failures=[failure])).reason == reason


def test_a_failure_nobody_has_heard_of_is_a_failure() -> None:
    assert parse_failure_type("eaten by a grue") is FailureType.UNKNOWN
    odd = Failure(type=FailureType.UNKNOWN, message="eaten by a grue: yes")
    assert decide_outcome(facts(failures=[odd])).ending is Ending.FAILED
