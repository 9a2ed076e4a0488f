"""Values of metrics."""

from __future__ import annotations

import math
from typing import Any

import pytest

from shipway_master.trialmetrics.values import (
    find_epoch,
    find_number,
    find_value,
    iterate_leaves,
    to_stored,
)


@pytest.mark.parametrize(
    ("number", "stored"),
    [(2.0, 2), (0.5, 0.5), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (math.nan, "NaN")],
    ids=str,
)
def test_each_number_has_a_form_in_json(number: float, stored: Any) -> None:
    assert to_stored(number) == stored
    assert find_number(stored) == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize("value", [None, True, "1", "nan", [1], {}], ids=str)
def test_what_is_no_number(value: Any) -> None:
    assert find_number(value) is None


def test_each_leaf_is_found_by_its_name() -> None:
    metrics = {"a": {"b": {"c": 1}, "x.y": {"z": 2}}, "a.b": {"d": 3}, "e": 4, "f": {}}

    leaves = dict(iterate_leaves(metrics))

    assert leaves == {"a.b.c": 1, "a.x.y.z": 2, "a.b.d": 3, "e": 4, "f": {}}
    assert {name: find_value(metrics, name) for name in leaves} == leaves
    assert find_value(metrics, "a.b.none") is None


def test_epochs_go_by_two_names() -> None:
    assert find_epoch({"epochs": 2}) == 2
    assert find_epoch({"epoch": 0, "epochs": 2}) == 0
    assert find_epoch({}) is None
