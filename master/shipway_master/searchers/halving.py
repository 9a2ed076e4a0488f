"""Asynchronous successive halving: which trials are stopped early.

The form of the algorithm that stops trials instead of pausing and promoting them: trials go on by
themselves, and one that comes to a rung without being among the best there ends.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeAlias, cast

from shipway_master.searchers.errors import BadSnapshot

WORST = math.inf

_Result: TypeAlias = tuple[float, int]
"""How good a trial was, smaller being better, and its number."""


class Halving:
    """What the trials of one halving had to show at each rung.

    Args:
        rungs: The times at which trials are compared. The last one is the end: who comes there has
            trained enough.
        divisor: One of so many trials goes on from a rung.
    """

    def __init__(self, rungs: Sequence[int], divisor: float) -> None:
        self._times = tuple(rungs)
        self._divisor = divisor
        self._results: list[list[_Result]] = [[] for _ in rungs]
        self._passed: dict[int, int] = {}

    def validated(self, trial: int, *, time: float, value: float) -> bool:
        """Take a result of a trial that has come to *time*; say whether it is to stop.

        One result may be the trial's for several rungs: when it validates is its own affair.
        """
        for rung in range(self._passed.get(trial, 0), len(self._times)):
            if time < self._times[rung]:
                return False
            rank = self._enter(rung, trial, value)
            is_last = rung == len(self._times) - 1
            if is_last or rank >= max(int(len(self._results[rung]) / self._divisor), 1):
                return True
        return False

    def failed(self, trial: int) -> None:
        """Count a trial that went away as the worst of its next rung."""
        rung = self._passed.get(trial, 0)
        if rung < len(self._times):
            self._enter(rung, trial, WORST)

    def forget(self, trial: int) -> None:
        """Compare nobody with this trial any more."""
        for rung in range(self._passed.pop(trial, 0)):
            self._results[rung] = [one for one in self._results[rung] if one[1] != trial]

    def snapshot(self) -> list[list[list[float | int | None]]]:
        """Give the state as plain data; null stands for the worst."""
        return [
            [[None if value == WORST else value, trial] for value, trial in results]
            for results in self._results
        ]

    def restore(self, snapshot: object) -> None:
        """Take the state of a halving with the same rungs.

        Raises:
            BadSnapshot: It has others.
        """
        rungs = cast("list[list[tuple[float | None, int]]]", snapshot)
        if len(rungs) != len(self._times):
            raise BadSnapshot(f"a search with {len(self._times)} rungs was kept with {len(rungs)}")
        for rung, results in enumerate(rungs):
            for value, trial in results:
                self._results[rung].append((WORST if value is None else value, trial))
                self._passed[trial] = rung + 1

    def _enter(self, rung: int, trial: int, value: float) -> int:
        """Put a result in its place; return how many come before it.

        Of equal ones the newest is first, except of those that showed nothing at all.
        """
        results = self._results[rung]
        rank = len(results)
        if value != WORST:
            rank = bisect_left(results, value, key=lambda result: result[0])
        results.insert(rank, (value, trial))
        self._passed[trial] = rung + 1
        return rank
