"""Curves with fewer points that look the same: largest triangle, three buckets.

Of each bucket of points the one stays that spans the largest triangle with the point kept before it
and the middle of the next bucket. Here one point may carry several metrics; their triangles are
added up, each metric being scaled to its own range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from shipway_master.trialmetrics.values import find_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Some metrics at one step."""

    steps: int
    reported_at: datetime
    values: Mapping[str, float | int | str]
    """As they are stored, but numbers all of them."""
    epoch: float | None = None


def thin_out(points: Sequence[Point], limit: int) -> list[Point]:
    """Choose *limit* of *points* at most, the first and the last of them always (of one: the last).

    Args:
        points: By their steps.
        limit: At least 1.
    """
    if len(points) <= limit:
        return list(points)
    if limit < 3:
        return [points[0], points[-1]][-limit:]
    places = _scale([float(point.steps) for point in points])
    names = sorted({name for point in points for name in point.values})
    curves = [_scale(_fill(points, name)) for name in names]
    kept = _choose(places, curves, limit)
    return [points[index] for index in kept]


def _choose(places: Sequence[float], curves: Sequence[Sequence[float]], limit: int) -> list[int]:
    """Choose by index."""
    last = len(places) - 1
    width = (last - 1) / (limit - 2)
    kept = [0]
    for bucket in range(limit - 2):
        start, end = 1 + int(bucket * width), 1 + int((bucket + 1) * width)
        next_end = max(min(1 + int((bucket + 2) * width), last), end + 1)
        middle = [_mean(series[end:next_end]) for series in (places, *curves)]
        before = kept[-1]
        largest, chosen = -1.0, start
        for index in range(start, end):
            area = _area(before, index, middle, places, curves)
            if area > largest:
                largest, chosen = area, index
        kept.append(chosen)
    return [*kept, last]


def _area(
    before: int,
    index: int,
    middle: Sequence[float],
    places: Sequence[float],
    curves: Sequence[Sequence[float]],
) -> float:
    to_middle, to_point = places[before] - middle[0], places[before] - places[index]
    total = 0.0
    for number, curve in enumerate(curves, 1):
        start = curve[before]
        total += abs(to_middle * (curve[index] - start) - to_point * (middle[number] - start))
    return total


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _fill(points: Sequence[Point], name: str) -> list[float]:
    """Write down a metric at each point; where it is missing or infinite, as it was before."""
    values: list[float] = []
    known = 0.0
    for point in points:
        number = find_number(point.values.get(name))
        if number is not None and math.isfinite(number):
            known = number
        values.append(known)
    return values


def _scale(values: Sequence[float]) -> list[float]:
    """Move *values* into the range from 0 to 1."""
    low, high = min(values), max(values)
    # Halves, because the difference of two large numbers may be none any more.
    half_range = high / 2 - low / 2
    if half_range == 0:
        return [0.0] * len(values)
    return [(value / 2 - low / 2) / half_range for value in values]
