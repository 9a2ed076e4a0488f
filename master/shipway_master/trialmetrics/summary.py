"""The summary of a trial's metrics, which grows report by report without looking back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

from shipway_master.trialmetrics.groups import key_of_group
from shipway_master.trialmetrics.values import (
    find_number,
    is_mapping,
    iterate_leaves,
    to_stored,
)

_MIXED = "string"
_SHORT = 200
_MOST_NAMES = 5000
"""Of one group: who makes up a new name for each step must not slow down everybody."""


class Summary:
    """By group and metric: count and type; of numbers also min, max, sum, mean and last.

    NaN counts, and makes sum and mean NaN too, but is smallest and largest only of itself. A metric
    whose reports are of several types is of the type `string`. Of short values that are no numbers
    the last one is kept. A group has 5000 metrics at most; those that come after are left out.
    """

    def __init__(self, stored: Mapping[str, Any]) -> None:
        """Go on from what *stored* holds, which is not changed."""
        self._groups: dict[str, dict[str, Any]] = {
            key: dict(metrics) for key, metrics in stored.items()
        }

    @classmethod
    def empty(cls) -> Self:
        """Begin anew."""
        return cls({})

    def add(self, group: str, metrics: Mapping[str, Any]) -> None:
        """Take one more report into account."""
        known = self._groups.setdefault(key_of_group(group), {})
        for name, value in iterate_leaves(metrics):
            if name in known or len(known) < _MOST_NAMES:
                known[name] = _add(known.get(name), value)

    def drop(self, group: str) -> None:
        """Forget what was reported in *group*."""
        self._groups.pop(key_of_group(group), None)

    def to_stored(self) -> dict[str, Any]:
        """Give out what is to be kept."""
        return self._groups


def _add(known: Mapping[str, Any] | None, value: Any) -> dict[str, Any]:
    number = find_number(value)
    kind = "number" if number is not None else _type_of(value)
    count = 1 if known is None else known["count"] + 1
    if known is not None and known["type"] != kind:
        kind = _MIXED
    entry: dict[str, Any] = {"count": count, "type": kind}
    if kind == "number":
        assert number is not None
        entry.update(_numbers(known, number, count))
    elif not isinstance(value, (list, dict)) and len(str(value)) <= _SHORT:
        entry["last"] = value
    return entry


def _numbers(known: Mapping[str, Any] | None, number: float, count: int) -> dict[str, Any]:
    smallest = largest = total = number
    if known is not None:
        total += _read(known["sum"])
        smallest = _pick(min, _read(known["min"]), number)
        largest = _pick(max, _read(known["max"]), number)
    numbers = {
        "min": smallest,
        "max": largest,
        "sum": total,
        "mean": total / count,
        "last": number,
    }
    return {name: to_stored(one) for name, one in numbers.items()}


def _pick(choose: Any, first: float, second: float) -> float:
    if math.isnan(first):
        return second
    if math.isnan(second):
        return first
    chosen: float = choose(first, second)
    return chosen


def _read(stored: Any) -> float:
    number = find_number(stored)
    assert number is not None
    return number


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case _:
            return "object" if is_mapping(value) else "array"
