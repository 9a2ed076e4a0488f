"""What was measured at the steps of checkpoints, and which of them is the better one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.trialmetrics import TrialMetricRow

TRAINING, VALIDATION = "training", "validation"
_BATCH = 500
"""Databases limit the values of one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """The metric that an experiment is judged by."""

    metric: str
    smaller_is_better: bool

    def measure(self, metrics: Mapping[str, Any] | None) -> float | None:
        """The value of the metric; None where it is missing or no number."""
        return read_number(metrics, self.metric)

    def badness(self, value: float) -> float:
        """A number that is the smaller the better *value* is."""
        return value if self.smaller_is_better else -value


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics reported at the step of a checkpoint, by group."""

    by_group: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    @property
    def validation(self) -> Mapping[str, Any] | None:
        """Those of the validation, if there was one."""
        return self.by_group.get(VALIDATION)


def read_yardstick(experiment: ExperimentRow) -> Yardstick:
    """Read how an experiment is judged."""
    config: Any = json.loads(experiment.config)
    searcher: Mapping[str, Any] = config.get("searcher") or {}
    return Yardstick(
        metric=str(searcher.get("metric") or ""),
        smaller_is_better=searcher.get("smaller_is_better") is not False,
    )


def read_number(metrics: Mapping[str, Any] | None, name: str) -> float | None:
    """One of *metrics* as a number; None where it is missing, something else, or no number."""
    value = None if metrics is None else metrics.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


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
        for checkpoint_id, group, metrics in (await session.execute(statement)).tuples():
            found.setdefault(checkpoint_id, {})[group] = metrics
    return {checkpoint_id: Measured(by_group) for checkpoint_id, by_group in found.items()}
