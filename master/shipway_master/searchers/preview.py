"""What a search would do, before it does anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from shipway_master.searchers.config import AdaptiveAshaConfig, AsyncHalvingConfig, SearcherConfig
from shipway_master.searchers.hyperparameters import Hyperparameters
from shipway_master.searchers.plan import BracketPlan, plan_search


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialsOfLength:
    """Trials that train equally long."""

    count: int
    time: int | None
    """How long, by the time metric; None is as long as the training code wants."""


def preview_search(config: SearcherConfig, space: Hyperparameters) -> list[TrialsOfLength]:
    """Count the trials of a search by how long they train if each trial comes out as it should.

    Raises:
        BadSearch: The two sections do not fit each other.
    """
    plans = plan_search(config, space)
    if not isinstance(config, (AsyncHalvingConfig, AdaptiveAshaConfig)):
        return [TrialsOfLength(count=plan.trials, time=None) for plan in plans]
    total: Counter[int] = Counter()
    for plan in plans:
        total.update(_count_by_time(plan, config.divisor))
    return [TrialsOfLength(count=total[time], time=time) for time in sorted(total)]


def _count_by_time(plan: BracketPlan, divisor: float) -> Counter[int]:
    """Count how many trials end at each rung."""
    ending: Counter[int] = Counter()
    left = plan.trials
    for time in plan.rungs[:-1]:
        going_on = max(int(left / divisor), 1)
        ending[time] += left - going_on
        left = going_on
    ending[plan.rungs[-1]] += left
    return ending
