"""How far a container is, in the words of the agent websocket."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """States in the order in which they come; the values are the wire's."""

    UNKNOWN = ""
    """The master allocated the container and heard nothing of it yet."""
    ASSIGNED = "ASSIGNED"
    PULLING = "PULLING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    TERMINATED = "TERMINATED"

    def is_before(self, other: State) -> bool:
        """Tell whether *other* comes later in a container's life."""
        return _order.index(self) < _order.index(other)


_order = tuple(State)

_allowed: dict[State, frozenset[State]] = {
    State.UNKNOWN: frozenset(),
    State.ASSIGNED: frozenset({State.PULLING, State.TERMINATED}),
    State.PULLING: frozenset({State.STARTING, State.TERMINATED}),
    State.STARTING: frozenset({State.RUNNING, State.TERMINATED}),
    State.RUNNING: frozenset({State.TERMINATED}),
    State.TERMINATED: frozenset(),
}


class WrongTransition(Exception):
    """A container was about to go to a state that cannot follow its own; a fault of this code."""


def transition(old: State, new: State) -> State:
    """Return *new* if it may follow *old*.

    Raises:
        WrongTransition: It may not.
    """
    if new not in _allowed[old]:
        raise WrongTransition(
            f"a container cannot go from {old or 'unknown'} to {new or 'unknown'}"
        )
    return new


def states_between(known: State, reached: State) -> list[State]:
    """Return the states a container went through after *known*, up to *reached*, in order.

    ASSIGNED is where every container begins and is never told.
    """
    return [
        state
        for state in _order
        if known.is_before(state) and not reached.is_before(state) and state is not State.ASSIGNED
    ]
