"""The best trials of an experiment by one metric."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.trialmetrics.groups import key_of_group
from shipway_master.trialmetrics.rounds import Watched
from shipway_master.trialmetrics.series import Metric
from shipway_master.trialmetrics.values import find_number

_HALVING = frozenset({"adaptive_asha", "async_halving"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trial that reported the metric."""

    trial_id: int
    hparams: Mapping[str, Any]
    steps: int
    badness: float
    """The smaller the better."""


async def load_best(
    database: Database, experiment: Watched, metric: Metric, *, limit: int
) -> list[Candidate]:
    """Load the best trials, best first.

    Where a search stops its worse trials early, those that trained longest are the better ones.
    """
    row = TrialRow
    statement = select(row.id, row.hparams, row.total_batches, row.summary_metrics)
    found: list[Candidate] = []
    async with database.reading() as session:
        rows = await session.execute(statement.where(row.experiment_id == experiment.id))
        for trial_id, hparams, steps, summary in rows:
            badness = _rate(summary, experiment, metric)
            if badness is not None:
                candidate = Candidate(
                    trial_id=trial_id, hparams=hparams, steps=steps, badness=badness
                )
                found.append(candidate)
    if experiment.searcher in _HALVING:
        found.sort(key=lambda one: (-one.steps, one.badness, one.trial_id))
    else:
        found.sort(key=lambda one: (one.badness, one.trial_id))
    return found[:limit]


def _rate(summary: Mapping[str, Any], experiment: Watched, metric: Metric) -> float | None:
    prefers_small = experiment.metric is None or experiment.metric.smaller_is_better
    rates: list[float] = []
    for key in _keys(summary, metric.groups):
        entry = summary.get(key, {}).get(metric.name, {})
        number = find_number(entry.get("min" if prefers_small else "max"))
        if number is not None:
            rates.append(number if prefers_small else -number)
    known = [rate for rate in rates if not math.isnan(rate)]
    return min(known) if known else (math.inf if rates else None)


def _keys(summary: Mapping[str, Any], groups: Collection[str]) -> Collection[str]:
    return [key_of_group(group) for group in groups] if groups else summary.keys()
