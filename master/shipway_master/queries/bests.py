"""The validations and the checkpoint that a trial shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.measured import VALIDATION, load_measured, measure
from shipway_master.queries.views import stamp
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.structs import to_struct
from shipway_master.trialmetrics.facts import SearcherMetric, read_searcher_metric
from shipway_master.trialmetrics.reading import load_reports
from shipway_master.trialmetrics.views import view_workload
from shipway_proto.determined.checkpoint.v1 import checkpoint_pb2
from shipway_proto.determined.trial.v1.trial_pb2 import CheckpointWorkload, MetricsWorkload

_COMPLETED = "COMPLETED"


async def load_validations(
    session: AsyncSession, ids: Collection[int]
) -> dict[int, MetricsWorkload]:
    """Write reports as steps of their trials, by their ids."""
    reports = await load_reports(session, list(ids))
    return {report_id: view_workload(report) for report_id, report in reports.items()}


async def load_best_checkpoints(
    session: AsyncSession, trials: Sequence[TrialRow]
) -> dict[int, CheckpointWorkload]:
    """Write the best checkpoint of each trial that has one with a validation at its step."""
    chosen = await _choose(session, trials)
    rows = await session.scalars(select(CheckpointRow).where(CheckpointRow.id.in_(chosen)))
    return {row.trial_id: view_checkpoint_step(row) for row in rows}


async def _choose(session: AsyncSession, trials: Sequence[TrialRow]) -> list[int]:
    candidates = select(CheckpointRow.id, CheckpointRow.trial_id).where(
        CheckpointRow.trial_id.in_([trial.id for trial in trials if trial.checkpoint_count]),
        CheckpointRow.state == _COMPLETED,
    )
    found = (await session.execute(candidates.order_by(CheckpointRow.id))).all()
    if not found:
        return []
    judges = await _load_judges(session, {trial.experiment_id for trial in trials})
    judge_of = {trial.id: judges[trial.experiment_id] for trial in trials}
    measured = await load_measured(session, [one.id for one in found], (VALIDATION,))
    best: dict[int, tuple[float, int]] = {}
    for checkpoint_id, trial_id in found:
        judge = judge_of[trial_id]
        if judge is None or checkpoint_id not in measured:
            continue
        value = measure(judge.name, measured[checkpoint_id].validation)
        known = best.get(trial_id)
        if value is not None and judge.is_better(value, None if known is None else known[0]):
            best[trial_id] = value, checkpoint_id
    return [checkpoint_id for _, checkpoint_id in best.values()]


async def _load_judges(
    session: AsyncSession, experiment_ids: Collection[int]
) -> dict[int, SearcherMetric | None]:
    statement = select(ExperimentRow.id, ExperimentRow.config)
    found = await session.execute(statement.where(ExperimentRow.id.in_(experiment_ids)))
    return {experiment_id: read_searcher_metric(config) for experiment_id, config in found}


def view_checkpoint_step(row: CheckpointRow) -> CheckpointWorkload:
    """Write a checkpoint as a step of its trial."""
    return CheckpointWorkload(
        uuid=row.uuid,
        end_time=stamp(row.reported_at),
        state=checkpoint_pb2.State.Value(f"STATE_{row.state}"),
        resources=row.resources,
        total_batches=row.steps_completed,
        metadata=to_struct(row.meta),
    )
