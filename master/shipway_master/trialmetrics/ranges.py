"""Ranges over one axis of a metric's history, as requests give them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement

from shipway_master.errors import InvalidArgument
from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.times import to_datetime
from shipway_master.trialmetrics.values import find_epoch, find_number, find_value
from shipway_proto.determined.common.v1.common_pb2 import PolymorphicFilter

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}
_Row = TrialMetricRow


def read_conditions(wanted: PolymorphicFilter) -> list[ColumnElement[bool]]:
    """Turn a range over steps or time into conditions on `TrialMetricRow`; of others, none.

    Raises:
        InvalidArgument: It is a range of something else than its axis has.
    """
    bounds = _read_bounds(wanted)
    if wanted.name == "time":
        if not wanted.HasField("time_range"):
            raise InvalidArgument("a filter by time needs a time_range")
        return [_COMPARE[name](_Row.reported_at, to_datetime(bound)) for name, bound in bounds]
    if wanted.HasField("time_range"):
        raise InvalidArgument(f"a filter by {wanted.name[:80]!r} has no time_range")
    if wanted.name != "batches":
        return []
    conditions = [_COMPARE[name](_Row.steps, bound) for name, bound in bounds]
    if wanted.HasField("integer_range"):
        if included := list(wanted.integer_range.incl):
            conditions.append(_Row.steps.in_(included))
        if excluded := list(wanted.integer_range.not_in):
            conditions.append(_Row.steps.not_in(excluded))
    return conditions


def read_test(wanted: PolymorphicFilter) -> Callable[[Mapping[str, Any]], bool] | None:
    """Turn a range over epochs, or over any metric, into a test of a report's metrics."""
    if wanted.name in ("", "batches", "time"):
        return None
    bounds = _read_bounds(wanted)
    name = wanted.name

    def passes(metrics: Mapping[str, Any]) -> bool:
        if name in ("epoch", "epochs"):
            value = find_epoch(metrics)
        else:
            value = find_number(find_value(metrics, name))
        return value is not None and all(
            _COMPARE[compare](value, bound) for compare, bound in bounds
        )

    return passes


def _read_bounds(wanted: PolymorphicFilter) -> list[tuple[str, Any]]:
    for field in ("double_range", "integer_range", "time_range"):
        if wanted.HasField(field):
            bounds = getattr(wanted, field)
            return [(name, getattr(bounds, name)) for name in _COMPARE if bounds.HasField(name)]
    return []
