"""Summaries of metrics, report by report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from shipway_master.trialmetrics.summary import Summary


def summarize(values: Sequence[Any]) -> dict[str, Any]:
    """Summarize the reports of one metric, keeping the summary as a database does between them."""
    summary = Summary.empty()
    for value in values:
        summary.add("mine", {"m": value})
        summary = Summary(json.loads(json.dumps(summary.to_stored())))
    entry: dict[str, Any] = summary.to_stored()["mine"]["m"]
    return entry


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2, 1, 3.5], (3, 1, 3.5, 6.5, 6.5 / 3, 3.5)),
        ([1, "NaN"], (2, 1, 1, "NaN", "NaN", "NaN")),
        (["NaN", 2], (2, 2, 2, "NaN", "NaN", 2)),
        ([1, "Infinity"], (2, 1, "Infinity", "Infinity", "Infinity", "Infinity")),
        (["-Infinity", "Infinity"], (2, "-Infinity", "Infinity", "NaN", "NaN", "Infinity")),
        ([1e308, 1e308], (2, 1e308, 1e308, "Infinity", "Infinity", 1e308)),
    ],
    ids=["plain", "nan-last", "nan-first", "infinity", "both-ends", "overflow"],
)
def test_numbers(values: Sequence[Any], expected: Sequence[Any]) -> None:
    names = ("count", "min", "max", "sum", "mean", "last")

    assert summarize(values) == {"type": "number", **dict(zip(names, expected, strict=True))}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", "b"], {"type": "string", "count": 2, "last": "b"}),
        ([True], {"type": "boolean", "count": 1, "last": True}),
        ([None], {"type": "null", "count": 1, "last": None}),
        ([[1, 2]], {"type": "array", "count": 1}),
        ([{}], {"type": "object", "count": 1}),
        ([1, "a"], {"type": "string", "count": 2, "last": "a"}),
        (["a", 1], {"type": "string", "count": 2, "last": 1}),
        (["a", 1, 2], {"type": "string", "count": 3, "last": 2}),
        (["x" * 1000], {"type": "string", "count": 1}),
    ],
    ids=str,
)
def test_other_types(values: Sequence[Any], expected: Any) -> None:
    assert summarize(values) == expected


def test_nested_metrics_have_their_way_in_their_names() -> None:
    summary = Summary.empty()

    summary.add("gpu", {"node": {"GPU-1": {"util": 5}, "none": {}}, "a.b": 1})

    assert list(summary.to_stored()["gpu"]) == ["node.GPU-1.util", "node.none", "a.b"]


def test_two_groups_are_kept_under_old_names() -> None:
    summary = Summary.empty()

    for group in ("training", "validation", "mine"):
        summary.add(group, {"m": 1})
    summary.drop("training")

    assert list(summary.to_stored()) == ["validation_metrics", "mine"]


def test_a_group_has_so_many_metrics_and_no_more() -> None:
    summary = Summary.empty()

    for step in range(3):
        summary.add("mine", {f"m{step}-{number}": 1 for number in range(2500)})
    summary.add("mine", {"m0-0": 2})

    known = summary.to_stored()["mine"]
    assert len(known) == 5000
    assert known["m0-0"]["count"] == 2
