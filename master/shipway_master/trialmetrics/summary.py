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

_NUMBER = "number"
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
        self._stored: dict[str, dict[str, Any]] = {
            key: dict(metrics) for key, metrics in stored.items()
        }
        self._open: dict[str, dict[str, _Metric]] = {}

    @classmethod
    def empty(cls) -> Self:
        """Begin anew."""
        return cls({})

    def add(self, group: str, metrics: Mapping[str, Any]) -> None:
        """Take one more report into account."""
        key = key_of_group(group)
        stored = self._stored.setdefault(key, {})
        opened = self._open.setdefault(key, {})
        for name, value in iterate_leaves(metrics):
            metric = opened.get(name)
            if metric is None:
                if name not in stored and len(stored) >= _MOST_NAMES:
                    continue
                metric = opened[name] = _Metric(stored.get(name))
                stored.setdefault(name, {})
            metric.add(value)

    def drop(self, group: str) -> None:
        """Forget what was reported in *group*."""
        self._stored.pop(key_of_group(group), None)
        self._open.pop(key_of_group(group), None)

    def to_stored(self) -> dict[str, Any]:
        """Give out what is to be kept."""
        for key, metrics in self._open.items():
            for name, metric in metrics.items():
                self._stored[key][name] = metric.to_stored()
        return self._stored


class _Metric:
    """One metric, to which reports are being added."""

    __slots__ = ("count", "has_last", "kind", "largest", "last", "smallest", "total")

    def __init__(self, stored: Mapping[str, Any] | None) -> None:
        known = stored or {}
        self.count: int = known.get("count", 0)
        self.kind: str = known.get("type", "")
        self.has_last = "last" in known
        self.last: Any = known.get("last")
        if self.kind == _NUMBER:
            self.last = find_number(self.last)
        self.total = find_number(known.get("sum")) or 0.0
        smallest, largest = find_number(known.get("min")), find_number(known.get("max"))
        self.smallest = math.nan if smallest is None else smallest
        self.largest = math.nan if largest is None else largest

    def add(self, value: Any) -> None:
        self.count += 1
        number = find_number(value)
        if number is None or self.kind not in ("", _NUMBER):
            self._add_other(value, _type_of(value) if number is None else _NUMBER)
            return
        self.kind, self.has_last, self.last = _NUMBER, True, number
        self.total += number
        # Written so that NaN gives way to each number, and no number to it.
        if not self.smallest <= number and number == number:
            self.smallest = number
        if not self.largest >= number and number == number:
            self.largest = number

    def _add_other(self, value: Any, kind: str) -> None:
        self.kind = kind if self.kind in ("", kind) else _MIXED
        self.has_last = not isinstance(value, (list, dict)) and len(str(value)) <= _SHORT
        self.last = value if self.has_last else None

    def to_stored(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"count": self.count, "type": self.kind}
        if self.kind == _NUMBER:
            numbers = {
                "min": self.smallest,
                "max": self.largest,
                "sum": self.total,
                "mean": self.total / self.count,
                "last": self.last,
            }
            entry.update((name, to_stored(one)) for name, one in numbers.items())
        elif self.has_last:
            entry["last"] = self.last
        return entry


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
