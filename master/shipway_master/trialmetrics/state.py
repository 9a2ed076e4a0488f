"""What the store knows about a trial's reports while some of them are written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.experiments import TrialRow
from shipway_master.trialmetrics.facts import SearcherMetric
from shipway_master.trialmetrics.summary import Summary
from shipway_master.trialmetrics.values import find_number, find_value


@dataclass(slots=True, kw_only=True)
class Step:
    """All that a run reported in one group at one step."""

    id: int | None
    """None until it is written for the first time."""
    trial_id: int
    run: int
    group: str
    steps: int | None
    reported_at: datetime
    metrics: dict[str, Any]
    batch_metrics: Sequence[Any] | None
    is_changed: bool = False


class TrialState:
    """The columns of a trial that its reports change."""

    def __init__(self, row: Any) -> None:
        self.trial_id: int = row.id
        self.run: int = row.run
        self.summary = Summary(row.summary_metrics)
        self.total_batches: int = row.total_batches
        self.searcher_metric: float | None = row.searcher_metric
        self._stored_metric: float | None = row.searcher_metric
        self._best: int | Step | None = row.best_validation_id
        self._latest: int | Step | None = row.latest_validation_id
        self.is_changed = False

    def add(self, step: Step, new: Mapping[str, Any]) -> None:
        """Take into account that *new* metrics came for *step*."""
        steps = max(self.total_batches, step.steps or 0)
        if not new and step.id is not None and steps == self.total_batches:
            return
        self.is_changed = True
        self.summary.add(step.group, new)
        self.total_batches = steps

    def judge(self, step: int | Step, new: Mapping[str, Any], by: SearcherMetric) -> None:
        """Take into account that *new* metrics came for *step*, a validation or the id of one."""
        value = find_number(find_value(new, by.name))
        if value is None:
            return
        self._latest = step
        if by.is_better(value, self.searcher_metric):
            self._best, self.searcher_metric = step, value

    def forget_validations(self) -> None:
        """Begin to judge anew."""
        self.searcher_metric = self._best = self._latest = None

    @property
    def has_new_best(self) -> bool:
        """Whether its best validation has another value now than in the store."""
        return self.searcher_metric != self._stored_metric

    def awaits_id_of(self, step: Step) -> bool:
        """Tell whether `to_row` needs the id of *step*."""
        return step is self._best or step is self._latest

    def to_row(self) -> dict[str, Any]:
        """Give out the columns, as they are to be written."""
        return {
            "id": self.trial_id,
            "summary_metrics": self.summary.to_stored(),
            "total_batches": self.total_batches,
            "searcher_metric": self.searcher_metric,
            "best_validation_id": _id_of(self._best),
            "latest_validation_id": _id_of(self._latest),
        }


def _id_of(step: int | Step | None) -> int | None:
    return step.id if isinstance(step, Step) else step


async def load_states(session: AsyncSession, trial_ids: Collection[int]) -> dict[int, TrialState]:
    """Load the states of those trials that are there, and let nobody else change them meanwhile."""
    row = TrialRow
    statement = select(
        row.id,
        row.run,
        row.summary_metrics,
        row.total_batches,
        row.searcher_metric,
        row.best_validation_id,
        row.latest_validation_id,
    ).where(row.id.in_(trial_ids))
    # In their order, so that no two who lock several of them wait for each other.
    locking = statement.order_by(row.id).with_for_update(key_share=True)
    return {one.id: TrialState(one) for one in await session.execute(locking)}


async def write_states(session: AsyncSession, states: Collection[TrialState]) -> None:
    """Write those that were changed."""
    rows = [state.to_row() for state in states if state.is_changed]
    if rows:
        await session.execute(update(TrialRow), rows)
