"""Grids: the published rule of which values a range gives, and the order of the points."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import pytest

from shipway_master.searchers.grid import Grid, list_without_count
from shipway_master.searchers.plan import find_problems
from tests.master.searchers.sections import make_searcher, make_space


def values_of(hyperparameter: Any) -> list[Any]:
    """Give the values of one hyperparameter in a grid."""
    grid = Grid(make_space(x=hyperparameter))
    return [grid.point(number)["x"] for number in range(grid.size)]


def test_the_published_example() -> None:
    grid = Grid(
        make_space(
            aparam={"type": "int", "minval": 0, "maxval": 2, "count": 3},
            bparam={"type": "categorical", "vals": [10, 20]},
            cparam="c",
        )
    )

    assert [tuple(grid.point(number).values()) for number in range(grid.size)] == [
        (0, 10, "c"),
        (0, 20, "c"),
        (1, 10, "c"),
        (1, 20, "c"),
        (2, 10, "c"),
        (2, 20, "c"),
    ]


@pytest.mark.parametrize(
    ("minval", "maxval", "count", "expected"),
    [
        (0, 2, 100, [0, 1, 2]),
        (0, 10, 3, [0, 5, 10]),
        (0, 9, 3, [0, 5, 9]),
        (-9, 0, 3, [-9, -5, 0]),
        (0, 10, 1, [5]),
        (0, 5, 1, [3]),
        (-5, 0, 1, [-3]),
        (-1, 1, 2, [-1, 1]),
        (2**53, 2**53 + 3, 4, [2**53, 2**53 + 1, 2**53 + 2, 2**53 + 3]),
    ],
)
def test_whole_numbers(minval: int, maxval: int, count: int, expected: list[int]) -> None:
    assert (
        values_of({"type": "int", "minval": minval, "maxval": maxval, "count": count}) == expected
    )


def test_whole_numbers_are_never_repeated() -> None:
    random = Random(5)
    for _ in range(500):
        low = random.randint(-50, 50)
        high = low + random.randint(1, 60)
        count = random.randint(2, 80)

        values = values_of({"type": "int", "minval": low, "maxval": high, "count": count})

        assert len(set(values)) == len(values) == min(count, high - low + 1)
        assert (values[0], values[-1]) == (low, high)
        assert values == sorted(values)


def test_doubles_and_logs() -> None:
    double = {"type": "double", "minval": 0.1, "maxval": 0.5}
    log = {"type": "log", "minval": -5, "maxval": -3, "base": 10}

    assert values_of({**double, "count": 3}) == pytest.approx([0.1, 0.3, 0.5])
    assert values_of({**double, "count": 1}) == pytest.approx([0.3])
    assert values_of({**double, "count": 7})[-1] == 0.5
    assert values_of({**log, "count": 3}) == pytest.approx([1e-5, 1e-4, 1e-3])
    assert values_of({**log, "count": 1}) == pytest.approx([1e-4])


def test_nested_and_empty_ones_are_kept() -> None:
    grid = Grid(make_space(a={"b": {"type": "categorical", "vals": [[1], None]}, "c": {}}, d=1))

    points = [grid.point(number) for number in range(grid.size)]

    assert points == [{"a": {"b": value, "c": {}}, "d": 1} for value in ([1], None)]


def test_nothing_to_choose_is_one_point() -> None:
    assert Grid(make_space()).size == 1
    assert Grid(make_space()).point(0) == {}


def test_each_combination_comes_once() -> None:
    space = make_space(
        a={"type": "int", "minval": 1, "maxval": 4, "count": 4},
        b={"x": {"type": "categorical", "vals": list("pqr")}, "y": 0},
        c={"type": "double", "minval": 0, "maxval": 1, "count": 5},
    )
    grid = Grid(space)

    points = [grid.point(number) for number in range(grid.size)]

    wanted = itertools.product([1, 2, 3, 4], "pqr", [0, 0.25, 0.5, 0.75, 1])
    assert [(one["a"], one["b"]["x"], one["c"]) for one in points] == list(wanted)


def test_ranges_without_count_are_named() -> None:
    space = make_space(
        a={"type": "int", "minval": 1, "maxval": 4},
        b={"x": {"type": "log", "minval": 0, "maxval": 1, "base": 2}, "y": 3},
        c={"type": "double", "minval": 0, "maxval": 1, "count": 5},
    )

    assert list_without_count(space) == ["a", "b.x"]
    places = [problem.place for problem in find_problems(make_searcher("grid"), space)]
    assert places == ["hyperparameters.a.count", "hyperparameters.b.x.count"]
    assert find_problems(make_searcher("random"), space) == []


def test_a_grid_without_end_is_refused() -> None:
    axis = {"type": "double", "minval": 0, "maxval": 1, "count": 2**31 - 1}

    (problem,) = find_problems(make_searcher("grid"), make_space(a=axis, b=axis))

    assert "2147483647 trials at most" in problem.text
