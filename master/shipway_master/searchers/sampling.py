"""Random choices that are the same again for the same seed, on any machine and any Python."""

from __future__ import annotations

import copy
import math
from random import Random
from typing import Any, Final, assert_never
from uuid import UUID

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

_TRIAL_SEEDS: Final = 2**31


class Draw:
    """The random choices for one trial of a search.

    They depend on the seed of the search and the number of the trial alone: not on what other
    trials did meanwhile, and a search that is taken up again has no generator to restore.
    """

    def __init__(self, seed: int, number: int) -> None:
        # Seeding with a text, getrandbits() and random() are what Python keeps from release to
        # release; choice() and randrange() have changed.
        self._random = Random(f"{seed}/{number}")  # noqa: S311 (to be repeated, not to be secret)

    def uuid(self) -> UUID:
        """Choose an id."""
        return UUID(int=self._random.getrandbits(128), version=4)

    def trial_seed(self) -> int:
        """Choose a number that the training code may seed its own generators with."""
        return self.below(_TRIAL_SEEDS)

    def below(self, bound: int) -> int:
        """Choose a whole number from 0 to *bound* - 1."""
        while (number := self._random.getrandbits(bound.bit_length())) >= bound:
            pass
        return number

    def between(self, low: float, high: float) -> float:
        """Choose a number from *low* to *high*."""
        return min(low + (high - low) * self._random.random(), high)


def sample(space: Hyperparameters, draw: Draw) -> dict[str, Any]:
    """Choose the hyperparameters of a trial."""
    return assemble((path, _choose(leaf, draw)) for path, leaf in space.leaves())


def _choose(leaf: Leaf, draw: Draw) -> Any:
    match leaf:
        case Const():
            return copy.deepcopy(leaf.val)
        case Categorical():
            return copy.deepcopy(leaf.vals[draw.below(len(leaf.vals))])
        case IntRange():
            return leaf.minval + draw.below(leaf.maxval - leaf.minval + 1)
        case DoubleRange():
            return draw.between(leaf.minval, leaf.maxval)
        case LogRange():
            return math.pow(leaf.base, draw.between(leaf.minval, leaf.maxval))
        case _:
            assert_never(leaf)
