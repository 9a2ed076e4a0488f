"""Which trial of an experiment is its best one, kept with the experiment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from operator import itemgetter

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.trialmetrics.facts import SearcherMetric, TrialFacts, read_searcher_metric
from shipway_master.trialmetrics.state import TrialState


async def write_best_trials(
    session: AsyncSession, changed: Iterable[tuple[TrialState, TrialFacts]]
) -> None:
    """Take into account that the best validations of trials are others now, as was written."""
    by_experiment: defaultdict[int, list[TrialState]] = defaultdict(list)
    metrics: dict[int, SearcherMetric] = {}
    for state, facts in changed:
        if facts.searcher_metric is not None:
            by_experiment[facts.experiment_id].append(state)
            metrics[facts.experiment_id] = facts.searcher_metric
    # In their order, so that no two who lock several of them wait for each other.
    for experiment_id, states in sorted(by_experiment.items(), key=itemgetter(0)):
        known = await _find_known(session, experiment_id)
        best = await _choose(session, experiment_id, metrics[experiment_id], known, states)
        if best != (None if known is None else known[0]):
            statement = update(ExperimentRow).where(ExperimentRow.id == experiment_id)
            await session.execute(statement.values(best_trial_id=best))


async def renew_best_trial(session: AsyncSession, experiment_id: int) -> None:
    """Find the best trial anew, as one is gone."""
    row = await session.get_one(ExperimentRow, experiment_id)
    metric = read_searcher_metric(row.config)
    row.best_trial_id = None if metric is None else await _find_best(session, row.id, metric)


async def _choose(
    session: AsyncSession,
    experiment_id: int,
    metric: SearcherMetric,
    known: tuple[int, float | None] | None,
    changed: Collection[TrialState],
) -> int | None:
    best_id, best = (None, None) if known is None else known
    if any(state.trial_id == best_id for state in changed):
        # It may have got worse: a newer run of it has gone over the same steps again.
        return await _find_best(session, experiment_id, metric)
    for state in changed:
        value = state.searcher_metric
        if value is not None and metric.is_better(value, best):
            best_id, best = state.trial_id, value
    return best_id


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
