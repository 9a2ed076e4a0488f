"""From rows to messages: what stands around them is read for a whole page at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import BigInteger, String, cast, func, or_, select, type_coerce
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.auth import Principal
from shipway_master.errors import NotFound
from shipway_master.queries.bests import load_best_checkpoints, load_validations
from shipway_master.queries.states import shown_experiment_state, shown_trial_state
from shipway_master.queries.views import (
    AroundExperiment,
    AroundTrial,
    Place,
    view_experiment,
    view_run,
    view_trial,
)
from shipway_master.store.base import microseconds
from shipway_master.store.experiments import (
    ExperimentFilesRow,
    ExperimentRow,
    TrialRow,
    TrialTaskRow,
)
from shipway_master.store.tasks import AllocationRow
from shipway_master.store.users import UserRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_proto.determined.experiment.v1.experiment_pb2 import Experiment
from shipway_proto.determined.run.v1.run_pb2 import FlatRun
from shipway_proto.determined.trial.v1.trial_pb2 import Trial

Item = TypeVar("Item")

_BATCH = 200
"""Rows whose surroundings are read at once: databases limit the values of one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ItsTrials:
    ids: Sequence[int]
    checkpoint_count: int
    checkpoint_bytes: int
    external_id: str | None


async def get_experiment_row(session: AsyncSession, experiment_id: int) -> ExperimentRow:
    """Find an experiment.

    Raises:
        NotFound: There is none.
    """
    row = await session.get(ExperimentRow, experiment_id)
    if row is None:
        raise NotFound("experiment", experiment_id)
    return row


async def get_trial_row(session: AsyncSession, trial_id: int) -> TrialRow:
    """Find a trial.

    Raises:
        NotFound: There is none.
    """
    row = await session.get(TrialRow, trial_id)
    if row is None:
        raise NotFound("trial", trial_id)
    return row


async def load_experiment(
    session: AsyncSession, experiment_id: int, reader: Principal
) -> Experiment:
    """Write one experiment; raises as `get_experiment_row`."""
    row = await get_experiment_row(session, experiment_id)
    return (await load_experiments(session, [row], reader))[0]


async def load_experiments(
    session: AsyncSession,
    rows: Sequence[ExperimentRow],
    reader: Principal,
    *,
    shows_best_trial: bool = True,
) -> list[Experiment]:
    """Write experiments in the order of *rows*.

    Args:
        reader: Who will read it; the owner sees his configuration as he sent it.
    """
    return [
        message
        for batch in _batches(rows)
        for message in await _load_experiments(session, batch, reader, shows_best_trial)
    ]


async def _load_experiments(
    session: AsyncSession,
    rows: Sequence[ExperimentRow],
    reader: Principal,
    shows_best_trial: bool,
) -> list[Experiment]:
    ids = [row.id for row in rows]
    states = await session.execute(
        select(ExperimentRow.id, shown_experiment_state()).where(ExperimentRow.id.in_(ids))
    )
    state_of = dict(states.all())
    owners = await _load_owners(session, {row.owner_id for row in rows})
    places = await load_places(session, {row.project_id for row in rows})
    trials = await _load_trials_of(session, ids)
    file_bytes = await _load_file_bytes(session, ids)
    metrics = await _load_best_metrics(session, rows)
    no_trials = _ItsTrials(ids=(), checkpoint_count=0, checkpoint_bytes=0, external_id=None)
    messages: list[Experiment] = []
    for row in rows:
        its = trials.get(row.id, no_trials)
        username, display_name = owners[row.owner_id]
        around = AroundExperiment(
            state=state_of[row.id],
            username=username,
            display_name=display_name,
            place=places[row.project_id],
            trial_ids=its.ids,
            checkpoint_count=its.checkpoint_count,
            checkpoint_bytes=its.checkpoint_bytes,
            model_definition_bytes=file_bytes.get(row.id, 0),
            best_trial_metric=metrics.get(row.best_trial_id or 0),
            external_trial_id=its.external_id if len(its.ids) == 1 else None,
            shows_secrets=reader.is_admin or reader.user_id == row.owner_id,
        )
        messages.append(view_experiment(row, around, shows_best_trial=shows_best_trial))
    return messages


async def load_trial(session: AsyncSession, trial_id: int) -> Trial:
    """Write one trial; raises as `get_trial_row`."""
    return (await load_trials(session, [await get_trial_row(session, trial_id)]))[0]


async def load_trials(session: AsyncSession, rows: Sequence[TrialRow]) -> list[Trial]:
    """Write trials in the order of *rows*."""
    return [message for batch in _batches(rows) for message in await _load_trials(session, batch)]


async def _load_trials(session: AsyncSession, rows: Sequence[TrialRow]) -> list[Trial]:
    ids = [row.id for row in rows]
    state_of = await _load_trial_states(session, ids)
    days = await _load_log_days(session, ids)
    tasks = await _load_task_ids(session, ids)
    seconds = await _load_wall_clock(session, ids)
    reports = {row.best_validation_id or 0 for row in rows}
    reports |= {row.latest_validation_id or 0 for row in rows}
    validations = await load_validations(session, reports)
    checkpoints = await load_best_checkpoints(session, rows)
    return [
        view_trial(
            row,
            AroundTrial(
                state=state_of[row.id],
                task_ids=tasks.get(row.id, ()),
                wall_clock_s=seconds.get(row.id, 0),
                log_retention_days=days[row.id],
                best_validation=validations.get(row.best_validation_id or 0),
                latest_validation=validations.get(row.latest_validation_id or 0),
                best_checkpoint=checkpoints.get(row.id),
            ),
        )
        for row in rows
    ]


async def load_runs(
    session: AsyncSession, rows: Sequence[tuple[TrialRow, ExperimentRow]]
) -> list[FlatRun]:
    """Write trials as runs, in the order of *rows*."""
    messages: list[FlatRun] = []
    for batch in _batches(rows):
        state_of = await _load_trial_states(session, [trial.id for trial, _ in batch])
        places = await load_places(session, {trial.project_id for trial, _ in batch})
        messages += [
            view_run(trial, experiment, state=state_of[trial.id], place=places[trial.project_id])
            for trial, experiment in batch
        ]
    return messages


async def load_places(session: AsyncSession, project_ids: Collection[int]) -> dict[int, Place]:
    """Read projects and their workspaces, by the project's id."""
    statement = (
        select(
            ProjectRow.id,
            ProjectRow.name,
            ProjectRow.key,
            ProjectRow.user_id,
            WorkspaceRow.id,
            WorkspaceRow.name,
            or_(ProjectRow.archived, WorkspaceRow.archived),
        )
        .join(WorkspaceRow, WorkspaceRow.id == ProjectRow.workspace_id)
        .where(ProjectRow.id.in_(project_ids))
    )
    found = await session.execute(statement)
    return {
        project_id: Place(
            project_id=project_id,
            project_name=project_name,
            project_key=project_key,
            project_owner_id=project_owner_id,
            workspace_id=workspace_id,
            workspace_name=workspace_name,
            is_archived=bool(is_archived),
        )
        for (
            project_id,
            project_name,
            project_key,
            project_owner_id,
            workspace_id,
            workspace_name,
            is_archived,
        ) in found
    }


def _batches(rows: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]


async def _load_trial_states(session: AsyncSession, ids: Sequence[int]) -> dict[int, str]:
    statement = (
        select(TrialRow.id, shown_trial_state())
        .join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
        .where(TrialRow.id.in_(ids))
    )
    return dict((await session.execute(statement)).all())


async def _load_log_days(session: AsyncSession, ids: Sequence[int]) -> dict[int, int | None]:
    days = func.coalesce(TrialRow.log_retention_days, ExperimentRow.log_retention_days)
    statement = (
        select(TrialRow.id, days)
        .join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
        .where(TrialRow.id.in_(ids))
    )
    return dict((await session.execute(statement)).all())


async def _load_owners(session: AsyncSession, ids: Collection[int]) -> dict[int, tuple[str, str]]:
    statement = select(UserRow.id, UserRow.username, UserRow.display_name)
    found = await session.execute(statement.where(UserRow.id.in_(ids)))
    return {user_id: (name, display_name) for user_id, name, display_name in found}


async def _load_trials_of(session: AsyncSession, ids: Sequence[int]) -> dict[int, _ItsTrials]:
    # The ids of all trials as one text: an experiment may have thousands, and a page 200 of these.
    statement = (
        select(
            TrialRow.experiment_id,
            func.aggregate_strings(cast(TrialRow.id, String), ","),
            func.sum(TrialRow.checkpoint_count),
            func.sum(TrialRow.checkpoint_bytes),
            func.max(TrialRow.external_id),
        )
        .where(TrialRow.experiment_id.in_(ids))
        .group_by(TrialRow.experiment_id)
    )
    return {
        experiment_id: _ItsTrials(
            ids=sorted(map(int, trial_ids.split(","))),
            checkpoint_count=int(count),
            checkpoint_bytes=int(size),
            external_id=external_id,
        )
        for experiment_id, trial_ids, count, size, external_id in await session.execute(statement)
    }


async def _load_file_bytes(session: AsyncSession, ids: Sequence[int]) -> dict[int, int]:
    # Both databases know the length without reading the archive.
    statement = select(ExperimentFilesRow.experiment_id, func.length(ExperimentFilesRow.tgz)).where(
        ExperimentFilesRow.experiment_id.in_(ids)
    )
    return dict((await session.execute(statement)).all())


async def _load_best_metrics(
    session: AsyncSession, rows: Sequence[ExperimentRow]
) -> dict[int, float | None]:
    ids = [row.best_trial_id for row in rows if row.best_trial_id is not None]
    statement = select(TrialRow.id, TrialRow.searcher_metric).where(TrialRow.id.in_(ids))
    return dict((await session.execute(statement)).all())


async def _load_task_ids(session: AsyncSession, ids: Sequence[int]) -> dict[int, list[str]]:
    statement = (
        select(TrialTaskRow.trial_id, TrialTaskRow.task_id)
        .where(TrialTaskRow.trial_id.in_(ids))
        .order_by(TrialTaskRow.trial_id, TrialTaskRow.number)
    )
    tasks: dict[int, list[str]] = defaultdict(list)
    for trial_id, task_id in await session.execute(statement):
        tasks[trial_id].append(task_id)
    return tasks


async def _load_wall_clock(session: AsyncSession, ids: Sequence[int]) -> dict[int, float]:
    now_us = microseconds(datetime.now(UTC))
    began = type_coerce(AllocationRow.started_at, BigInteger)
    ended = func.coalesce(type_coerce(AllocationRow.ended_at, BigInteger), now_us)
    statement = (
        select(TrialTaskRow.trial_id, func.sum(ended - began))
        .join(AllocationRow, AllocationRow.task_id == TrialTaskRow.task_id)
        .where(TrialTaskRow.trial_id.in_(ids), AllocationRow.started_at.is_not(None))
        .group_by(TrialTaskRow.trial_id)
    )
    found = await session.execute(statement)
    return {trial_id: max(0.0, float(total_us) / 1e6) for trial_id, total_us in found}
