"""The states of a dispatch, and which may follow which."""

from __future__ import annotations

import enum


class DispatchState(enum.StrEnum):
    """What the master is told; the words are those of the API."""

    UNKNOWN = "UNKNOWN"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    TERMINATING = "TERMINATING"
    MISSING = "MISSING"
    TERMINATED = "TERMINATED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self in _FINAL


_FINAL = frozenset(
    {
        DispatchState.MISSING,
        DispatchState.TERMINATED,
        DispatchState.COMPLETED,
        DispatchState.FAILED,
    }
)
_ALLOWED = {
    # A requeued job waits again, so RUNNING may become PENDING; but who asked for the end of a job
    # sees it ending until it has ended.
    DispatchState.UNKNOWN: frozenset(DispatchState),
    DispatchState.PENDING: frozenset(DispatchState),
    DispatchState.RUNNING: frozenset(DispatchState),
    DispatchState.TERMINATING: _FINAL | {DispatchState.TERMINATING},
} | {state: frozenset({state}) for state in _FINAL}


class IllegalTransition(Exception):
    """A state was to follow one that it cannot follow; a mistake in this program."""


def transition(old: DispatchState, new: DispatchState) -> DispatchState:
    """Return *new* if it may follow *old*.

    Raises:
        IllegalTransition: It may not.
    """
    if new not in _ALLOWED[old]:
        raise IllegalTransition(f"{new} cannot follow {old}")
    return new
