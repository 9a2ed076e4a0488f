"""Values of metrics: numbers that JSON lacks, and metrics below others."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from typing import Any, Final, TypeGuard, cast

from shipway_master.structs import whole_as_int

_SPECIAL: Final[Mapping[str, float]] = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}


def to_stored(number: float) -> float | str:
    """Turn a number into what JSON can hold of it."""
    if math.isfinite(number):
        return whole_as_int(number)
    if math.isnan(number):
        return "NaN"
    return "Infinity" if number > 0 else "-Infinity"


def find_number(value: Any) -> float | None:
    """Read a stored value as a number; None: it is something else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return _SPECIAL.get(value) if isinstance(value, str) else None


def iterate_leaves(metrics: Mapping[str, Any], prefix: str = "") -> Generator[tuple[str, Any]]:
    """Go through all metrics, those in nested objects by the names on the way with dots between."""
    for name, value in metrics.items():
        if is_mapping(value) and value:
            yield from iterate_leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def find_value(metrics: Mapping[str, Any], name: str) -> Any:
    """Find the metric that `iterate_leaves` calls *name*; None when there is none."""
    if name in metrics:
        return metrics[name]
    head, dot, rest = name.partition(".")
    while dot:
        below = metrics.get(head)
        if is_mapping(below) and (found := find_value(below, rest)) is not None:
            return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None


def find_epoch(metrics: Mapping[str, Any]) -> float | None:
    """Read the epoch that a report names, under either of its two names."""
    for name in ("epoch", "epochs"):
        if (number := find_number(metrics.get(name))) is not None:
            return number
    return None


def has_nul(value: Any) -> bool:
    """Tell whether a text in *value*, or the name of something, has a NUL character."""
    if isinstance(value, str):
        return "\0" in value
    if is_mapping(value):
        return any("\0" in name or has_nul(below) for name, below in value.items())
    return _is_list(value) and any(map(has_nul, value))


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Tell whether *value* is a nested object."""
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in cast("Any", value))


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
