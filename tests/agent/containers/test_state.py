from __future__ import annotations

import itertools

import pytest

from shipway_agent.containers.state import State, WrongTransition, states_between, transition

ALLOWED = {
    (State.ASSIGNED, State.PULLING),
    (State.ASSIGNED, State.TERMINATED),
    (State.PULLING, State.STARTING),
    (State.PULLING, State.TERMINATED),
    (State.STARTING, State.RUNNING),
    (State.STARTING, State.TERMINATED),
    (State.RUNNING, State.TERMINATED),
}


@pytest.mark.parametrize(("old", "new"), list(itertools.product(State, State)))
def test_only_the_next_state_or_the_end_may_follow(old: State, new: State) -> None:
    if (old, new) in ALLOWED:
        assert transition(old, new) is new
    else:
        with pytest.raises(WrongTransition):
            transition(old, new)


@pytest.mark.parametrize(
    ("known", "reached", "missed"),
    [
        (State.UNKNOWN, State.ASSIGNED, []),
        (State.UNKNOWN, State.PULLING, [State.PULLING]),
        (State.ASSIGNED, State.RUNNING, [State.PULLING, State.STARTING, State.RUNNING]),
        (State.STARTING, State.RUNNING, [State.RUNNING]),
        (State.RUNNING, State.RUNNING, []),
        (State.RUNNING, State.PULLING, []),
        (State.TERMINATED, State.RUNNING, []),
    ],
)
def test_what_a_master_missed(known: State, reached: State, missed: list[State]) -> None:
    assert states_between(known, reached) == missed
