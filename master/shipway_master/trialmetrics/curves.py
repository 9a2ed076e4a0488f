"""The curves of a trial's metrics, thinned out."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement

from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.trialmetrics.downsample import Point, thin_out
from shipway_master.trialmetrics.reading import StoredMetrics, StoredReport
from shipway_master.trialmetrics.values import (
    find_epoch,
    find_number,
    find_value,
    iterate_leaves,
)

_MANY_POINTS = 2000
"""From so many on it is worth the way into another thread to thin them out."""

_Row = TrialMetricRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which metrics, from where to where, and how many points of them."""

    names: Mapping[str, Collection[str]]
    """By group; under the empty one those wanted of every group. None given: all of it."""
    start: int = 0
    """The first step."""
    end: int = 0
    """The last step; 0: there is none."""
    limit: int
    where: Sequence[ColumnElement[bool]] = ()
    """More conditions on `TrialMetricRow`."""
    passes: Callable[[Mapping[str, Any]], bool] | None = None
    """One more condition, on the metrics of a report."""

    def names_in(self, group: str) -> Collection[str]:
        """The metrics wanted of *group*; none at all mean every one."""
        everywhere, here = self.names.get(""), self.names.get(group)
        if here is None or everywhere is None:
            return everywhere or here or ()
        return {*everywhere, *here}

    @property
    def groups(self) -> Collection[str]:
        """The only groups that are wanted; none at all mean every one."""
        return () if "" in self.names else self.names.keys()

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        """What the database looks at."""
        conditions = list(self.where)
        if self.start > 0:
            conditions.append(_Row.steps >= self.start)
        if self.end > 0:
            conditions.append(_Row.steps <= self.end)
        return conditions


@dataclass(slots=True)
class _Curves:
    wanted: Wanted
    points: defaultdict[str, list[Point]] = field(
        default_factory=lambda: defaultdict[str, list[Point]](list)
    )

    def add(self, report: StoredReport) -> None:
        if self.wanted.passes is not None and not self.wanted.passes(report.metrics):
            return
        values = _choose(report.metrics, self.wanted.names_in(report.group))
        if values:
            self.points[report.group].append(
                Point(
                    steps=report.steps or 0,
                    reported_at=report.reported_at,
                    values=values,
                    epoch=find_epoch(report.metrics),
                )
            )


async def load_curves(
    metrics: StoredMetrics, trial_id: int, wanted: Wanted
) -> dict[str, list[Point]]:
    """Load what *wanted* asks for, by group; groups in which there is nothing are left out."""
    curves = _Curves(wanted)
    pages = metrics.read(trial_id, groups=wanted.groups, where=wanted.conditions)
    async with aclosing(pages):
        async for page in pages:
            for report in page:
                curves.add(report)
    return {group: await _thin_out(points, wanted.limit) for group, points in curves.points.items()}


async def _thin_out(points: Sequence[Point], limit: int) -> list[Point]:
    if len(points) < _MANY_POINTS:
        return thin_out(points, limit)
    return await asyncio.to_thread(thin_out, points, limit)


def _choose(metrics: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    pairs = [(name, find_value(metrics, name)) for name in names] or iterate_leaves(metrics)
    return {name: value for name, value in pairs if find_number(value) is not None}
