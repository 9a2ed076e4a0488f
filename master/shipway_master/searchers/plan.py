"""What a search is going to do, as far as its configuration says: how many trials, compared when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from shipway_common.settings import Problem
from shipway_master.searchers.config import (
    MAX_RUNGS,
    AdaptiveAshaConfig,
    AsyncHalvingConfig,
    GridConfig,
    RandomConfig,
    SearcherConfig,
    SingleConfig,
)
from shipway_master.searchers.errors import BadSearch
from shipway_master.searchers.grid import MAX_SIZE, Grid, list_without_count
from shipway_master.searchers.hyperparameters import Hyperparameters
from shipway_master.searchers.numbers import INT32_MAX

AT_ONCE_LIMIT: Final = 1000
"""Trials that a bracket has at a time even if it may have more: the rest waits here instead of in
the queue of the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BracketPlan:
    """Trials that are compared with each other and with no others."""

    trials: int
    at_once: int
    rungs: tuple[int, ...] = ()
    """The times at which they are compared; none where all train as long as they want."""


def find_problems(config: SearcherConfig, space: Hyperparameters) -> list[Problem]:
    """List what is wrong with a search although each of its two sections is right by itself."""
    if not isinstance(config, GridConfig):
        return []
    missing = list_without_count(space)
    if missing:
        text = "a grid needs a count of each range"
        return [Problem(f"hyperparameters.{path}.count", text) for path in missing]
    if Grid(space).size > MAX_SIZE:
        return [Problem("hyperparameters", f"a grid has {MAX_SIZE} trials at most")]
    return []


def plan_search(config: SearcherConfig, space: Hyperparameters) -> list[BracketPlan]:
    """Say what brackets a search has.

    Raises:
        BadSearch: `find_problems` finds some.
    """
    problems = find_problems(config, space)
    if problems:
        raise BadSearch("; ".join(map(str, problems)))
    match config:
        case SingleConfig():
            return [BracketPlan(trials=1, at_once=1)]
        case RandomConfig():
            return [_plan_bracket(config.max_trials, config.max_concurrent_trials)]
        case GridConfig():
            return [_plan_bracket(Grid(space).size, config.max_concurrent_trials)]
        case AsyncHalvingConfig():
            return [_plan_halving(config)]
        case AdaptiveAshaConfig():
            return _plan_adaptive(config)
        case _:
            assert_never(config)


def _plan_bracket(trials: int, at_once: int, rungs: Sequence[int] = ()) -> BracketPlan:
    """Plan a bracket; *at_once* 0 is as many as there are."""
    at_once = min(at_once or trials, trials, AT_ONCE_LIMIT)
    return BracketPlan(trials=trials, at_once=at_once, rungs=tuple(rungs))


def _plan_halving(config: AsyncHalvingConfig) -> BracketPlan:
    # Where nobody said how many, so many that one of them comes to the end by the rule.
    enough = int(min(_power(config.divisor, config.num_rungs - 1), config.max_trials))
    rungs = place_rungs(config.num_rungs, config.divisor, config.max_time)
    return _plan_bracket(config.max_trials, config.max_concurrent_trials or enough, rungs)


def place_rungs(count: int, divisor: float, max_time: int) -> list[int]:
    """Place rungs so that each is *divisor* times as far as the one before, the last at the end."""
    return [max(int(max_time / _power(divisor, count - 1 - i)), 1) for i in range(count)]


def _plan_adaptive(config: AdaptiveAshaConfig) -> list[BracketPlan]:
    """Plan the brackets of an adaptive search, the one that stops most eagerly first."""
    counts = sorted(config.bracket_rungs or _choose_rung_counts(config), reverse=True)
    counts = counts[: config.max_trials]  # each has a trial at least
    trials = split_trials(config.max_trials, config.divisor, counts)
    at_once = split_at_once(config.max_concurrent_trials, config.divisor, trials)
    return [
        _plan_bracket(one, limit, place_rungs(count, config.divisor, config.max_time))
        for count, one, limit in zip(counts, trials, at_once, strict=True)
    ]


def _choose_rung_counts(config: AdaptiveAshaConfig) -> list[int]:
    # No more rungs than times to place them at, and than it takes to have one trial at the last.
    most = min(
        config.max_rungs,
        MAX_RUNGS,
        _exponent(config.divisor, config.max_time) + 1,
        _exponent(config.divisor, config.max_trials) + 1,
    )
    match config.mode:
        case "aggressive":
            return [most]
        case "standard":
            return list(range((most - 1) // 2 + 1, most + 1))
        case "conservative":
            return list(range(1, most + 1))
        case _:
            assert_never(config.mode)


def split_trials(trials: int, divisor: float, rung_counts: Sequence[int]) -> list[int]:
    """Split trials over brackets so that all brackets train for about the same time in all.

    The n rungs of a bracket take about n whole trainings for divisor**(n - 1) trials. What is left
    by rounding goes to the first bracket. There must not be more brackets than trials.
    """
    weights = [_power(divisor, count - 1) / count for count in rung_counts]
    whole = sum(weights)
    if math.isinf(whole):
        shares = [1] * len(weights)
    else:
        shares = [max(int(weight / whole * trials), 1) for weight in weights]
    shares[0] += max(trials - sum(shares), 0)
    while sum(shares) > trials:  # where shares below one were rounded up to it
        shares[shares.index(max(shares))] -= 1
    return shares


def split_at_once(at_once: int, divisor: float, trials: Sequence[int]) -> list[int]:
    """Split the number of trials at a time over brackets, evenly; what is left goes to the first.

    Args:
        at_once: 0: as many for each bracket as the last one has trials, or `divisor`.
        trials: What each bracket has in all.
    """
    if at_once == 0:
        return [max(trials[-1], int(min(divisor, INT32_MAX)))] * len(trials)
    each, left = divmod(max(at_once, len(trials)), len(trials))
    return [each + (i < left) for i in range(len(trials))]


def _power(base: float, exponent: int) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return math.inf


def _exponent(base: float, number: int) -> int:
    """Count how often *base* fits into *number*, as a factor; logarithms may be off by one."""
    exponent = 0
    while exponent < MAX_RUNGS and _power(base, exponent + 1) <= number:
        exponent += 1
    return exponent
