"""The states of experiments and trials, and what wishes make of them: pure rules.

Facts: task-environment.md 9.10, 9.11.
"""

from __future__ import annotations

from enum import StrEnum

from shipway_master.tasks.states import TaskState


class RunState(StrEnum):
    """What is wanted of an experiment or a trial, and what became of it; as the API names it."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    STOPPING_COMPLETED = "STOPPING_COMPLETED"
    STOPPING_CANCELED = "STOPPING_CANCELED"
    STOPPING_KILLED = "STOPPING_KILLED"
    STOPPING_ERROR = "STOPPING_ERROR"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    ERROR = "ERROR"
    DELETING = "DELETING"
    DELETE_FAILED = "DELETE_FAILED"

    @property
    def is_final(self) -> bool:
        """Whether nothing of it will ever run again by itself."""
        return self in _FINAL

    @property
    def is_stopping(self) -> bool:
        """Whether it is on its way to its end."""
        return self in _ENDS


_FINAL = {
    RunState.COMPLETED,
    RunState.CANCELED,
    RunState.ERROR,
    RunState.DELETING,
    RunState.DELETE_FAILED,
}
_ENDS = {
    RunState.STOPPING_COMPLETED: RunState.COMPLETED,
    RunState.STOPPING_CANCELED: RunState.CANCELED,
    RunState.STOPPING_KILLED: RunState.CANCELED,
    RunState.STOPPING_ERROR: RunState.ERROR,
}
_STRENGTH = [
    RunState.STOPPING_COMPLETED,
    RunState.STOPPING_CANCELED,
    RunState.STOPPING_ERROR,
    RunState.STOPPING_KILLED,
]
_TASK_STATES = {
    RunState.COMPLETED: TaskState.COMPLETED,
    RunState.CANCELED: TaskState.CANCELED,
    RunState.ERROR: TaskState.ERROR,
}


def get_end(state: RunState) -> RunState:
    """The final state that a stopping one leads to; others end as canceled."""
    return _ENDS.get(state, state if state.is_final else RunState.CANCELED)


def stop(state: RunState, wish: RunState) -> RunState:
    """The state of what is asked to stop: a kill may follow a cancel, not the other way round."""
    if state.is_final:
        return state
    if state.is_stopping and _STRENGTH.index(state) > _STRENGTH.index(wish):
        return state
    return wish


def get_task_state(state: RunState) -> TaskState:
    """The state of a task whose trial has come to a final state."""
    return _TASK_STATES[state]
