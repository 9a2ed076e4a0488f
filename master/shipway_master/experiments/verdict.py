"""What the end of a run makes of its trial: pure rules.

Facts: task-environment.md 9.10.
"""

from __future__ import annotations

from dataclasses import dataclass

from shipway_master.allocations.exits import Ending, FailureType, Outcome
from shipway_master.experiments.states import RunState, get_end
from shipway_master.tasks.states import LOST_RUNS_LIMIT

_NEVER_SUBMITTED = "sbatch: error: Batch job submission failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the rules need to know of a trial when one of its runs has ended."""

    state: RunState
    restarts: int
    max_restarts: int
    has_left_early: bool = False
    """It reported that it cannot go on."""
    are_retries_canceled: bool = False
    """A log policy said that trying again is of no use."""
    lost_runs: int = 0
    """How many runs in a row, the ended one included, were lost before they ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of the trial; one that is still active runs again."""

    state: RunState
    restarts: int
    text: str
    note: str = ""
    """For the trial's log."""


def judge(standing: Standing, outcome: Outcome) -> Verdict:
    """Say what becomes of a trial whose run has ended; the first rule that fits wins."""
    failed = outcome.ending in (Ending.FAILED, Ending.LOST)
    text = str(outcome.failure) if failed and outcome.failure is not None else outcome.reason
    restarts, state = standing.restarts, standing.state

    def to(state: RunState, text: str = text, restarts: int = restarts, note: str = "") -> Verdict:
        return Verdict(state=state, restarts=restarts, text=text, note=note)

    if state.is_stopping:
        is_error = failed and state is not RunState.STOPPING_KILLED
        return to(RunState.ERROR if is_error else get_end(state))
    if standing.has_left_early:
        text = "it reported that it cannot go on"
        return to(RunState.COMPLETED, text, note=f"the trial is complete: {text}")
    match outcome.ending:
        case Ending.FINISHED:
            return to(RunState.COMPLETED, "success (exit code 0)")
        case Ending.STOPPED:
            return to(state)
        case Ending.LOST:
            if standing.lost_runs >= LOST_RUNS_LIMIT:
                text = f"given up after {standing.lost_runs} runs that never ran: {text}"
                return to(RunState.ERROR, text, note=f"the trial is {text}")
            return to(state)
        case Ending.FAILED:
            if _can_never_run(outcome):
                return to(RunState.ERROR)
            if standing.are_retries_canceled:
                text = f"not tried again, as a log policy says: {text}"
                return to(RunState.ERROR, text, note=f"the trial is {text}")
            limit = f"max_restarts is {standing.max_restarts}"
            restarts += 1
            if restarts > standing.max_restarts:
                note = f"the trial has failed: {_count(restarts)}, and {limit}"
                return to(RunState.ERROR, text, restarts, note)
            again = "is started again" if state is RunState.ACTIVE else "can be started again"
            return to(state, text, restarts, f"the trial {again}: {_count(restarts)}, and {limit}")


def _count(failures: int) -> str:
    return "it failed once" if failures == 1 else f"it failed {failures} times"


def _can_never_run(outcome: Outcome) -> bool:
    failure = outcome.failure
    return failure is not None and (
        failure.type is FailureType.UNLAUNCHABLE or _NEVER_SUBMITTED in failure.message
    )
