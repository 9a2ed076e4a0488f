"""All combinations of hyperparameters, made one by one: a grid may be too large to hold."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, Final, assert_never

from shipway_master.searchers.hyperparameters import (
    Categorical,
    Const,
    DoubleRange,
    Hyperparameters,
    IntRange,
    Leaf,
    LogRange,
    assemble,
)
from shipway_master.searchers.numbers import INT32_MAX

MAX_SIZE: Final = INT32_MAX


class Grid:
    """The points of a space whose ranges all have a count; the last hyperparameter changes first.

    A range is divided evenly, with both its ends; one value of it is its middle.
    """

    def __init__(self, space: Hyperparameters) -> None:
        self._axes = [(path, leaf, _count(leaf)) for path, leaf in space.leaves()]
        self.size = _product(count for _, _, count in self._axes)
        """How many points there are; beyond `MAX_SIZE` any number above it."""

    def point(self, number: int) -> dict[str, Any]:
        """Build the hyperparameters of one point, counted from 0."""
        values: list[tuple[tuple[str, ...], Any]] = []
        for path, leaf, count in reversed(self._axes):
            number, index = divmod(number, count)
            values.append((path, _value(leaf, index, count)))
        return assemble(reversed(values))


def _product(counts: Iterable[int]) -> int:
    product = 1
    for count in counts:
        product *= count
        if product > MAX_SIZE:  # what is yet to come could make it millions of digits
            break
    return product


def list_without_count(space: Hyperparameters) -> list[str]:
    """Name the ranges that a grid cannot be made of, by dotted path."""
    return [
        ".".join(path)
        for path, leaf in space.leaves()
        if isinstance(leaf, (IntRange, DoubleRange, LogRange)) and leaf.count is None
    ]


def _count(leaf: Leaf) -> int:
    match leaf:
        case Const():
            return 1
        case Categorical():
            return len(leaf.vals)
        case IntRange():
            return min(leaf.count or 1, leaf.maxval - leaf.minval + 1)
        case DoubleRange() | LogRange():
            return leaf.count or 1
        case _:
            assert_never(leaf)


def _value(leaf: Leaf, index: int, count: int) -> Any:
    match leaf:
        case Const():
            return copy.deepcopy(leaf.val)
        case Categorical():
            return copy.deepcopy(leaf.vals[index])
        case IntRange():
            return _whole_step(leaf.minval, leaf.maxval, index, count)
        case DoubleRange():
            return _step(leaf.minval, leaf.maxval, index, count)
        case LogRange():
            return math.pow(leaf.base, _step(leaf.minval, leaf.maxval, index, count))
        case _:
            assert_never(leaf)


def _step(low: float, high: float, index: int, count: int) -> float:
    if count == 1:
        return low + (high - low) / 2
    if index == count - 1:
        return high  # to the last bit
    return low + index * (high - low) / (count - 1)


def _whole_step(low: int, high: int, index: int, count: int) -> int:
    """Take the nearest whole number, halves away from zero; with *count* numbers to choose from or
    more, no two steps have the same."""
    steps = count - 1
    doubled, divisor = (
        (2 * (low * steps + index * (high - low)), steps) if steps else (low + high, 1)
    )
    nearest = (abs(doubled) + divisor) // (2 * divisor)
    return nearest if doubled > 0 else -nearest
