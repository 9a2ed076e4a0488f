"""Which trial of an experiment is its best one, kept with the experiment."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.trialmetrics.facts import SearcherMetric, TrialFacts
from shipway_master.trialmetrics.state import TrialState


async def write_best_trials(
    session: AsyncSession, changed: Iterable[tuple[TrialState, TrialFacts]]
) -> None:
    """Take into account that the best validations of trials are others now, as was written."""
    for state, facts in changed:
        if facts.searcher_metric is None:
            continue
        known = await _find_known(session, facts.experiment_id)
        if known is not None and known[0] == state.trial_id:
            # It may have got worse: a newer run of it has gone over the same steps again.
            best = await _find_best(session, facts.experiment_id, facts.searcher_metric)
        elif state.searcher_metric is not None and facts.searcher_metric.is_better(
            state.searcher_metric, None if known is None else known[1]
        ):
            best = state.trial_id
        else:
            continue
        if known is None or best != known[0]:
            statement = update(ExperimentRow).where(ExperimentRow.id == facts.experiment_id)
            await session.execute(statement.values(best_trial_id=best))


async def _find_known(session: AsyncSession, experiment_id: int) -> tuple[int, float | None] | None:
    statement = (
        select(TrialRow.id, TrialRow.searcher_metric)
        .join(ExperimentRow, ExperimentRow.best_trial_id == TrialRow.id)
        .where(ExperimentRow.id == experiment_id)
    )
    row = (await session.execute(statement)).one_or_none()
    return None if row is None else (row.id, row.searcher_metric)


async def _find_best(session: AsyncSession, experiment_id: int, by: SearcherMetric) -> int | None:
    metric = TrialRow.searcher_metric
    statement = (
        select(TrialRow.id)
        .where(TrialRow.experiment_id == experiment_id, metric.is_not(None))
        .order_by(metric.asc() if by.smaller_is_better else metric.desc(), TrialRow.id)
        .limit(1)
    )
    return await session.scalar(statement)
