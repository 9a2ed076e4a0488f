"""What was measured at the steps of checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.trialmetrics.facts import SearcherMetric
from shipway_master.trialmetrics.values import find_number, find_value

TRAINING, VALIDATION = "training", "validation"
_BATCH = 500
"""Databases limit the values of one statement."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics reported at the step of a checkpoint, by group."""

    by_group: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    @property
    def validation(self) -> Mapping[str, Any] | None:
        """Those of the validation, if there was one."""
        return self.by_group.get(VALIDATION)


def measure(metric: str, metrics: Mapping[str, Any] | None) -> float | None:
    """The value of a metric; None where it is missing or no number."""
    number = None if metrics is None else find_number(find_value(metrics, metric))
    return None if number is None or math.isnan(number) else number


def rate(judged_by: SearcherMetric | None, its: Measured | None) -> float | None:
    """A number that is the smaller, the better a checkpoint is; None where nobody can tell."""
    if judged_by is None or its is None:
        return None
    value = measure(judged_by.name, its.validation)
    return value if value is None or judged_by.smaller_is_better else -value


async def load_measured(
    session: AsyncSession, checkpoint_ids: Sequence[int], groups: Sequence[str]
) -> dict[int, Measured]:
    """Load what was reported at the steps of checkpoints, by their ids."""
    found: dict[int, dict[str, Mapping[str, Any]]] = {}
    for start in range(0, len(checkpoint_ids), _BATCH):
        statement = (
            select(CheckpointRow.id, TrialMetricRow.group, TrialMetricRow.metrics)
            .join(
                TrialMetricRow,
                (TrialMetricRow.trial_id == CheckpointRow.trial_id)
                & (TrialMetricRow.steps == CheckpointRow.steps_completed),
            )
            .where(
                CheckpointRow.id.in_(checkpoint_ids[start : start + _BATCH]),
                TrialMetricRow.group.in_(groups),
                TrialMetricRow.archived.is_(False),
            )
            .order_by(TrialMetricRow.id)  # of several runs the newest stays
        )
        for checkpoint_id, group, metrics in await session.execute(statement):
            found.setdefault(checkpoint_id, {})[group] = metrics
    return {checkpoint_id: Measured(by_group) for checkpoint_id, by_group in found.items()}
