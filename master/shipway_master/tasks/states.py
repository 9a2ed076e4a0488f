"""The states of a task, and what the end of one of its runs makes of them: pure rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shipway_master.allocations.exits import Ending, FailureType, Outcome

LOST_RUNS_LIMIT = 5
"""So many runs in a row may be lost before they ran at all; then the task is given up."""


class TaskType(StrEnum):
    """Kinds of tasks of this master."""

    COMMAND = "COMMAND"
    SHELL = "SHELL"
    NOTEBOOK = "NOTEBOOK"
    TENSORBOARD = "TENSORBOARD"
    GENERIC = "GENERIC"
    TRIAL = "TRIAL"
    CHECKPOINT_GC = "CHECKPOINT_GC"


class TaskState(StrEnum):
    """What a task does; only generic tasks and trials can be paused."""

    ACTIVE = "ACTIVE"
    STOPPING_PAUSED = "STOPPING_PAUSED"
    PAUSED = "PAUSED"
    STOPPING_CANCELED = "STOPPING_CANCELED"
    CANCELED = "CANCELED"
    COMPLETED = "COMPLETED"
    ERROR = "ERROR"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come of it."""
        return self in _FINAL


_FINAL = {TaskState.CANCELED, TaskState.COMPLETED, TaskState.ERROR}


class WrongState(Exception):
    """The task is not in a state for this; the text says in which it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What becomes of a task."""

    state: TaskState
    runs_again: bool = False
    exit_status: str = ""
    """For people, once the state is final."""
    note: str = ""
    """For the task's log."""


def pause(state: TaskState, *, no_pause: bool) -> TaskState:
    """The state of a task that is asked to pause; repeating changes nothing.

    Raises:
        WrongState: It cannot be paused (any more).
    """
    if no_pause:
        raise WrongState("the task was created with no_pause, so it cannot be paused")
    match state:
        case TaskState.ACTIVE:
            return TaskState.STOPPING_PAUSED
        case TaskState.STOPPING_PAUSED | TaskState.PAUSED:
            return state
        case _:
            raise WrongState(f"a task in state {state} cannot be paused")


def unpause(state: TaskState, *, may_be_leaving: bool = False) -> TaskState:
    """The state of a task that is asked to go on; it then needs a new run.

    Args:
        may_be_leaving: Whether it may be asked while its run is still leaving.

    Raises:
        WrongState: It is not paused.
    """
    is_leaving = may_be_leaving and state is TaskState.STOPPING_PAUSED
    if state is not TaskState.PAUSED and not is_leaving:
        raise WrongState(f"a task in state {state} cannot be unpaused")
    return TaskState.ACTIVE


def cancel(state: TaskState, *, has_run: bool) -> TaskState:
    """The state of a task that is killed; *has_run* says whether something must end first."""
    if state.is_final:
        return state
    return TaskState.STOPPING_CANCELED if has_run else TaskState.CANCELED


def _never_began(outcome: Outcome) -> bool:
    """Whether it is certain that nothing of the task has been done."""
    failure = outcome.failure
    return failure is not None and failure.type is FailureType.RESOURCES_ABORTED


def after_run(task_type: TaskType, state: TaskState, outcome: Outcome, *, lost_runs: int) -> Next:
    """Say what the end of a run makes of its task.

    Args:
        lost_runs: How many runs in a row, this one included, were lost before they ran.
    """
    failed = outcome.ending in (Ending.FAILED, Ending.LOST)
    status = str(outcome.failure) if failed and outcome.failure is not None else outcome.reason
    if state is TaskState.STOPPING_CANCELED:
        return Next(state=TaskState.CANCELED, exit_status="killed")
    match outcome.ending:
        case Ending.FINISHED:
            return Next(state=TaskState.COMPLETED, exit_status="success (exit code 0)")
        case Ending.FAILED:
            return Next(state=TaskState.ERROR, exit_status=status)
        case Ending.STOPPED | Ending.LOST:
            if task_type is not TaskType.GENERIC and not (lost_runs and _never_began(outcome)):
                is_lost = outcome.ending is Ending.LOST
                final = TaskState.ERROR if is_lost else TaskState.CANCELED
                return Next(state=final, exit_status=status)
            if state is TaskState.STOPPING_PAUSED:
                return Next(state=TaskState.PAUSED)
            if lost_runs >= LOST_RUNS_LIMIT:
                text = f"given up after {lost_runs} runs that never ran: {status}"
                return Next(state=TaskState.ERROR, exit_status=text)
            return Next(state=TaskState.ACTIVE, runs_again=True)
