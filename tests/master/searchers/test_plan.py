"""How trials are split over brackets and rungs, and what a preview says of it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from shipway_master.searchers.errors import BadSearch
from shipway_master.searchers.plan import (
    AT_ONCE_LIMIT,
    BracketPlan,
    place_rungs,
    plan_search,
    split_at_once,
    split_trials,
)
from shipway_master.searchers.preview import preview_search
from tests.master.searchers.sections import make_searcher, make_space

NOTHING = make_space()


def plan(name: str, **keys: Any) -> list[tuple[int, int, int]]:
    """Plan a search; give rungs, trials and trials at a time of each bracket."""
    plans = plan_search(make_searcher(name, **keys), NOTHING)
    return [(len(one.rungs), one.trials, one.at_once) for one in plans]


# The numbers of these three are those of Determined 0.38.1 (its adaptive_asha_test.go,
# asha_stopping_test.go and simulate_test.go).
@pytest.mark.parametrize(
    ("trials", "divisor", "rungs", "expected"),
    [
        (20, 3, [3, 2, 1], [12, 5, 3]),
        (50, 3, [4, 3], [35, 15]),
        (50, 4, [3, 2], [37, 13]),
        (100, 4, [4, 3, 2], [70, 22, 8]),
    ],
)
def test_trials_are_split_as_by_the_original(
    trials: int, divisor: float, rungs: list[int], expected: list[int]
) -> None:
    assert split_trials(trials, divisor, rungs) == expected


@pytest.mark.parametrize(
    ("at_once", "divisor", "trials", "expected"),
    [
        (0, 3, [9, 3, 1], [3, 3, 3]),
        (11, 3, [9, 3, 1], [4, 4, 3]),
        (0, 4, [40, 10], [10, 10]),
        (1, 4, [40, 10], [1, 1]),
    ],
)
def test_trials_at_a_time_are_split_as_by_the_original(
    at_once: int, divisor: float, trials: list[int], expected: list[int]
) -> None:
    assert split_at_once(at_once, divisor, trials) == expected


@pytest.mark.parametrize(
    ("count", "divisor", "time", "expected"),
    [
        (3, 3, 9, [1, 3, 9]),
        (4, 2, 10, [1, 2, 5, 10]),
        (1, 3, 9, [9]),
        (3, 3, 900, [100, 300, 900]),
        (4, 10, 5, [1, 1, 1, 5]),
        (3, 1e300, 5, [1, 1, 5]),
    ],
)
def test_rungs_are_placed_as_by_the_original(
    count: int, divisor: float, time: int, expected: list[int]
) -> None:
    assert place_rungs(count, divisor, time) == expected


def test_brackets_by_mode() -> None:
    long = {"max_trials": 500, "max_time": 1024, "max_concurrent_trials": 0}

    def rungs(**keys: Any) -> list[int]:
        return [count for count, _, _ in plan("adaptive_asha", **long, **keys)]

    assert rungs(mode="aggressive") == [5]
    assert rungs(mode="standard") == [5, 4, 3]
    assert rungs(mode="conservative") == [5, 4, 3, 2, 1]
    assert rungs(mode="conservative", max_rungs=2) == [2, 1]
    assert rungs(bracket_rungs=[1, 3]) == [3, 1]


def test_brackets_of_the_original() -> None:
    small = plan("adaptive_asha", max_trials=10, max_time=100, max_concurrent_trials=2)
    keys: dict[str, Any] = {"mode": "conservative", "divisor": 3, "max_concurrent_trials": 5}
    wide = plan("adaptive_asha", max_trials=10, max_time=1000, **keys)

    assert small == [(2, 7, 1), (1, 3, 1)]
    assert wide == [(3, 7, 2), (2, 2, 2), (1, 1, 1)]


def test_the_last_rung_gets_a_trial_even_where_logarithms_are_off_by_one() -> None:
    keys: dict[str, Any] = {"divisor": 5, "mode": "aggressive"}

    assert plan("adaptive_asha", max_trials=125, max_time=125, **keys)[0][0] == 4
    assert plan("adaptive_asha", max_trials=124, max_time=125, **keys)[0][0] == 3
    assert plan("adaptive_asha", max_trials=125, max_time=124, **keys)[0][0] == 3


def test_brackets_share_the_trials_whatever_is_asked_for() -> None:
    random = Random(11)
    for _ in range(500):
        keys = {
            "max_trials": random.randint(1, 40),
            "max_time": random.randint(1, 10**6),
            "divisor": random.choice([1.001, 1.5, 2, 3, 4, 16, 1e200]),
            "mode": random.choice(["aggressive", "standard", "conservative"]),
            "max_rungs": random.randint(1, 200),
            "max_concurrent_trials": random.randint(0, 50),
            "bracket_rungs": [random.randint(1, 100) for _ in range(random.choice([0, 0, 1, 5]))],
        }

        plans = plan_search(make_searcher("adaptive_asha", **keys), NOTHING)

        assert sum(one.trials for one in plans) == keys["max_trials"]
        for one in plans:
            assert 1 <= one.at_once <= one.trials
            assert one.rungs[-1] == keys["max_time"]
            assert list(one.rungs) == sorted(one.rungs)


@pytest.mark.parametrize(
    ("name", "keys", "expected"),
    [
        ("single", {}, (0, 1, 1)),
        ("random", {"max_trials": 5}, (0, 5, 5)),
        ("random", {"max_trials": 50}, (0, 50, 16)),
        ("random", {"max_trials": 50, "max_concurrent_trials": 0}, (0, 50, 50)),
        ("random", {"max_trials": 5000, "max_concurrent_trials": 0}, (0, 5000, AT_ONCE_LIMIT)),
        ("grid", {}, (0, 1, 1)),
        ("async_halving", {"max_concurrent_trials": 2}, (3, 16, 2)),
        ("async_halving", {"max_concurrent_trials": 0, "divisor": 3}, (3, 16, 9)),
        ("async_halving", {"max_concurrent_trials": 0, "divisor": 1e200}, (3, 16, 16)),
    ],
    ids=str,
)
def test_one_bracket(name: str, keys: dict[str, Any], expected: tuple[int, int, int]) -> None:
    assert plan(name, **keys) == [expected]


def test_a_bracket_without_rungs_compares_nothing() -> None:
    assert plan_search(make_searcher("single"), NOTHING) == [BracketPlan(trials=1, at_once=1)]


def test_a_grid_that_cannot_be_made_is_no_plan() -> None:
    space = make_space(a={"type": "int", "minval": 1, "maxval": 4})

    with pytest.raises(BadSearch, match=r"hyperparameters\.a\.count: a grid needs a count"):
        plan_search(make_searcher("grid"), space)


def test_the_preview_of_a_halving_is_that_of_the_original() -> None:
    keys: dict[str, Any] = {"max_trials": 10, "max_time": 900, "divisor": 3, "max_rungs": 10}
    config = make_searcher("adaptive_asha", max_concurrent_trials=5, **keys)

    preview = preview_search(config, NOTHING)

    assert [(one.count, one.time) for one in preview] == [(5, 100), (3, 300), (2, 900)]


def test_the_preview_of_trials_that_end_by_themselves() -> None:
    space = make_space(a={"type": "int", "minval": 0, "maxval": 10, "count": 4})

    for name, count in (("single", 1), ("random", 16), ("grid", 4)):
        (preview,) = preview_search(make_searcher(name), space)
        assert (preview.count, preview.time) == (count, None)


def test_a_preview_counts_each_trial_once() -> None:
    for trials in range(1, 60):
        config = make_searcher("adaptive_asha", max_trials=trials, mode="conservative")
        assert sum(one.count for one in preview_search(config, NOTHING)) == trials
