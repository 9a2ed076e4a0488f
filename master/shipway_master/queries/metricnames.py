"""The names of columns that show metrics: group, metric and aggregate, with dots between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from shipway_master.trialmetrics.groups import group_of_key, key_of_group

AGGREGATES: Final = ("last", "max", "mean", "min")
"""What columns show of a metric that is a number."""


def parse_metric_column(column: str) -> Sequence[str] | None:
    """Find the path within summary metrics that a column shows; None when it is no metric's."""
    name, _, aggregate = column.rpartition(".")
    if aggregate not in AGGREGATES:
        return None
    group, metric = name[: (end := name.find(".", 1))], name[end + 1 :]
    return (key_of_group(group), metric, aggregate) if end > 0 and metric else None


def make_metric_column(key: str, metric: str, aggregate: str) -> str:
    """Name the column of an entry of summary metrics, whose group is there under *key*."""
    return f"{group_of_key(key)}.{metric}.{aggregate}"
