"""A metric of all trials at about the same step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.trialmetrics.series import Metric, Value, read_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """What one trial had reported."""

    trial_id: int
    hparams: Mapping[str, Any]
    steps: int
    number: float


async def load_snapshot(
    database: Database, metric: Metric, *, steps: int, margin: int
) -> list[Shot]:
    """Load of each trial the value nearest to *steps*, not more than *margin* steps away."""
    nearest: dict[int, Value] = {}
    row = TrialMetricRow
    near = [row.steps >= steps - margin, row.steps <= steps + margin]
    values = read_values(database, metric, where=near, order=[row.trial_id, row.steps, row.id])
    async with aclosing(values):
        async for value in values:
            known = nearest.get(value.trial_id)
            if known is None or abs(value.steps - steps) < abs(known.steps - steps):
                nearest[value.trial_id] = value
    statement = select(TrialRow.id, TrialRow.hparams).where(
        TrialRow.experiment_id == metric.experiment_id
    )
    async with database.reading() as session:
        hparams: dict[int, dict[str, Any]] = dict((await session.execute(statement)).all())
    return [
        Shot(
            trial_id=trial_id,
            hparams=hparams.get(trial_id, {}),
            steps=value.steps,
            number=value.number,
        )
        for trial_id, value in nearest.items()
    ]
