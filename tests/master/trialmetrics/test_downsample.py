"""Curves with fewer points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shipway_master.trialmetrics.downsample import Point, thin_out

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def curve(values: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Build a curve with a point per step."""
    return [
        Point(steps=step, reported_at=BEGUN + timedelta(seconds=step), values=value)
        for step, value in enumerate(values)
    ]


def steps(points: Sequence[Point]) -> list[int]:
    """Name points by their steps."""
    return [point.steps for point in points]


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 12, 100, 1001])
@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_there_are_as_many_points_as_wanted(count: int, limit: int) -> None:
    points = curve([{"a": math.sin(step)} for step in range(count)])

    kept = steps(thin_out(points, limit))

    assert len(kept) == min(count, limit)
    assert kept == sorted(set(kept))
    assert kept[-1] == count - 1
    assert limit == 1 or kept[0] == 0


def test_peaks_of_each_metric_stay() -> None:
    values = [{"a": 0.0, "b": 1e9} for _ in range(1000)]
    values[333]["a"] = 1.0
    values[666]["b"] = 2e9

    kept = steps(thin_out(curve(values), 20))

    assert {333, 666} <= set(kept)


def test_what_is_no_number_does_not_matter() -> None:
    values: list[dict[str, Any]] = [{"a": "NaN"}, {}, {"a": "Infinity"}, {"a": 1e308}] * 50
    values[77] = {"a": -1e308}

    assert 77 in steps(thin_out(curve(values), 10))


def test_a_curve_of_one_value_is_kept_evenly() -> None:
    kept = steps(thin_out(curve([{"a": 5}] * 100), 12))

    assert max(after - before for before, after in itertools.pairwise(kept)) < 20
