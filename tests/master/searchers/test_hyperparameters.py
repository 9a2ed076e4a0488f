"""The section `hyperparameters`: what stands for what, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from shipway_master.searchers.hyperparameters import MAX_DEPTH, Hyperparameters
from tests.master.searchers.sections import list_mistakes, make_space

SPACE = TypeAdapter(Hyperparameters)


def test_what_has_no_type_stands_for_itself() -> None:
    space = make_space(
        a=None, b=True, c=3, d=1.5, e="x", f=[1, {"type": "int"}], g={"h": {"i": 7}, "j": {}}
    )

    assert space.model_dump(mode="json") == {
        "a": {"type": "const", "val": None},
        "b": {"type": "const", "val": True},
        "c": {"type": "const", "val": 3},
        "d": {"type": "const", "val": 1.5},
        "e": {"type": "const", "val": "x"},
        "f": {"type": "const", "val": [1, {"type": "int"}]},
        "g": {"h": {"i": {"type": "const", "val": 7}}, "j": {}},
    }


def test_the_written_form_is_read_as_the_same() -> None:
    given: dict[str, Any] = {
        "i": {"type": "int", "minval": 1, "maxval": 3, "count": 2},
        "d": {"type": "double", "minval": 0, "maxval": 0.5},
        "l": {"type": "log", "minval": -5, "maxval": -1, "base": 10},
        "c": {"type": "categorical", "vals": [None, True, 0, "a", [1], {"red": "fish"}]},
        "k": {"type": "const", "val": {"red": "fish"}},
    }

    written = make_space(**given, n=given).model_dump(mode="json")

    assert written == {**given, "n": given}
    assert make_space(**written) == make_space(**given, n=given)


def test_leaves_come_in_the_order_of_their_names() -> None:
    space = make_space(b={"y": 1, "x": 2, "z": {}}, a=3)

    assert [path for path, _ in space.leaves()] == [("a",), ("b", "x"), ("b", "y"), ("b", "z")]


def test_a_count_of_null_is_none() -> None:
    plain = {"type": "int", "minval": 1, "maxval": 2}

    assert make_space(a={**plain, "count": None}) == make_space(a=plain)


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"type": "intt"}, "o.x"),
        ({"type": None}, "o.x"),
        ({"type": "int", "minval": 2, "maxval": 2}, "o.x"),
        ({"type": "int", "minval": 1.5, "maxval": 2}, "o.x.minval"),
        ({"type": "int", "minval": 1, "maxval": "2"}, "o.x.maxval"),
        ({"type": "int", "minval": False, "maxval": 2}, "o.x.minval"),
        ({"type": "int", "minval": 1, "maxval": 2**63}, "o.x.maxval"),
        ({"type": "int", "minval": 1, "maxval": 2, "count": 0}, "o.x.count"),
        ({"type": "double", "minval": 1, "maxval": 0.5}, "o.x"),
        ({"type": "double", "minval": -1.7e308, "maxval": 1.7e308}, "o.x"),
        ({"type": "double", "maxval": 1}, "o.x.minval"),
        ({"type": "log", "minval": 1, "maxval": 2}, "o.x.base"),
        ({"type": "log", "minval": 1, "maxval": 2, "base": 0}, "o.x.base"),
        ({"type": "log", "minval": 1, "maxval": 400, "base": 10}, "o.x"),
        ({"type": "log", "minval": -400, "maxval": 1, "base": 10}, "o.x"),
        ({"type": "categorical", "vals": []}, "o.x.vals"),
        ({"type": "categorical", "vals": "abc"}, "o.x.vals"),
        ({"type": "categorical"}, "o.x.vals"),
        ({"type": "const"}, "o.x.val"),
        ({"type": "const", "val": 1, "count": 1}, "o.x.count"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_mistake_is_told_by_its_path(wrong: Any, path: str) -> None:
    assert list(list_mistakes({"o": {"x": wrong}, "fine": 1}, SPACE)) == [path]


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), 10**400, {1: 2}, b"x", object()],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    assert list_mistakes({"a": [{"b": value}]}, SPACE)


def test_what_is_nested_too_deeply_is_refused() -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for _ in range(levels):
            value = {"a": value}
        return value

    assert list_mistakes(nested(MAX_DEPTH - 1), SPACE) == {}
    assert "deep" in list_mistakes(nested(5000), SPACE)[""]


@pytest.mark.parametrize("section", [None, 7, "x", []])
def test_what_is_no_section(section: Any) -> None:
    assert list_mistakes(section, SPACE)
