"""Experiments and trials in the database, as far as their lives need them.

What trials report (metrics, checkpoints) is written into the same rows by other modules; only the
columns of the life are written here.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.allocations.ids import JobId, TaskId
from shipway_master.experiments.states import RunState
from shipway_master.store.database import Database
from shipway_master.store.experiments import (
    ExperimentFilesRow,
    ExperimentRow,
    TrialRow,
    TrialTaskRow,
)
from shipway_master.store.workspaces import ProjectRow

_FINAL = [state.value for state in RunState if state.is_final]


@dataclass(slots=True, kw_only=True)
class ExperimentRecord:
    """An experiment; the fields from `state` on change.

    Its name, labels and the like are only there to be stored with a new one: people change them, and
    its project, in the database alone.
    """

    id: int = 0
    """0 until it is stored."""
    job_id: JobId
    owner_id: int
    project_id: int
    workspace_id: int
    unmanaged: bool = False
    external_id: str | None = None
    parent_id: int | None = None
    seed: int
    slots_per_trial: int
    original_config: str = field(repr=False)
    started_at: datetime
    name: str
    description: str = ""
    labels: list[str] = field(default_factory=list[str])
    log_retention_days: int | None = None
    state: RunState
    is_continued: bool = False
    """It goes on with the trials that it has, and no searcher."""
    config: dict[str, Any] = field(repr=False)
    """With the defaults applied, secrets included."""
    pool: str
    manager: str
    priority: int
    ended_at: datetime | None = None
    progress: float | None = None
    search: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(slots=True, kw_only=True)
class TrialRecord:
    """A trial; the fields from `state` on change, and *hparams* where it is continued with others."""

    id: int = 0
    """0 until it is stored."""
    experiment_id: int
    request_id: str | None
    external_id: str | None = None
    hparams: Mapping[str, Any] = field(repr=False)
    seed: int
    started_at: datetime
    source_checkpoint: str | None = None
    state: RunState
    task_ids: list[TaskId] = field(default_factory=list[TaskId])
    """Its tasks, the newest last."""
    run: int = 0
    judged_run: int = 0
    restarts: int = 0
    ports: list[int] = field(default_factory=list[int])
    ended_at: datetime | None = None
    early_exit: str | None = None
    excluded_nodes: list[str] = field(default_factory=list[str])
    are_retries_canceled: bool = False
    log_signal: str | None = None
    last_activity_at: datetime | None = None

    @property
    def task_id(self) -> TaskId:
        """Its newest task."""
        return self.task_ids[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentFiles:
    """What all trials of an experiment find."""

    tgz: bytes = field(repr=False)
    private_key: str = field(repr=False)
    public_key: str


NoteEnd = Callable[[AsyncSession, ExperimentRecord], Awaitable[None]]
"""Stores what follows from the end of an experiment, in the transaction that stores the end."""


class ExperimentRecords:
    """Reads and writes experiments and trials."""

    def __init__(self, database: Database, *, note_end: NoteEnd | None = None) -> None:
        self._database, self._note_end = database, note_end

    async def add(self, record: ExperimentRecord, files: ExperimentFiles) -> None:
        """Store a new experiment, and give it its id."""
        row = ExperimentRow(
            job_id=record.job_id,
            owner_id=record.owner_id,
            project_id=record.project_id,
            original_config=record.original_config,
            slots_per_trial=record.slots_per_trial,
            seed=record.seed,
            unmanaged=record.unmanaged,
            external_id=record.external_id,
            parent_id=record.parent_id,
            started_at=record.started_at,
            name=record.name,
            description=record.description,
            labels=record.labels,
            notes="",
            log_retention_days=record.log_retention_days,
            archived=False,
            **_changing(record),
        )
        async with self._database.writing() as session:
            session.add(row)
            await session.flush()
            session.add(
                ExperimentFilesRow(
                    experiment_id=row.id,
                    tgz=files.tgz,
                    private_key=files.private_key,
                    public_key=files.public_key,
                )
            )
        record.id = row.id

    async def save(
        self, record: ExperimentRecord, *, new_trials: Sequence[TrialRecord] = ()
    ) -> None:
        """Store how an experiment is, and with it trials that came out of that; they get ids."""
        statement = update(ExperimentRow).where(ExperimentRow.id == record.id)
        async with self._database.writing() as session:
            changing = statement.values(**_changing(record)).returning(ExperimentRow.project_id)
            project_id = (await session.execute(changing)).scalar_one()
            rows = [_make_row(trial, project_id) for trial in new_trials]
            session.add_all(rows)
            await session.flush()
            for trial, row in zip(new_trials, rows, strict=True):
                for number, task_id in enumerate(trial.task_ids):
                    session.add(TrialTaskRow(task_id=task_id, trial_id=row.id, number=number))
        for trial, row in zip(new_trials, rows, strict=True):
            trial.id = row.id

    async def end(self, record: ExperimentRecord) -> None:
        """Store that an experiment has come to its end, and with it what follows from that."""
        statement = update(ExperimentRow).where(ExperimentRow.id == record.id)
        async with self._database.writing() as session:
            await session.execute(statement.values(**_changing(record)))
            if self._note_end is not None:
                await self._note_end(session, record)

    async def save_trial(self, record: TrialRecord) -> None:
        """Store how a trial is."""
        statement = update(TrialRow).where(TrialRow.id == record.id)
        async with self._database.writing() as session:
            await session.execute(statement.values(**_changing_of_trial(record)))

    async def reopen(self, record: ExperimentRecord, trials: Sequence[TrialRecord]) -> None:
        """Store an experiment that goes on, and its trials that do so by a new task each."""
        statement = update(ExperimentRow).where(ExperimentRow.id == record.id)
        async with self._database.writing() as session:
            await session.execute(statement.values(**_changing(record)))
            for trial in trials:
                of_trial = update(TrialRow).where(TrialRow.id == trial.id)
                changes = {"hparams": dict(trial.hparams), **_changing_of_trial(trial)}
                await session.execute(of_trial.values(**changes))
                number = len(trial.task_ids) - 1
                session.add(TrialTaskRow(task_id=trial.task_id, trial_id=trial.id, number=number))

    async def load(self, experiment_id: int) -> ExperimentRecord | None:
        """Load one experiment."""
        found = await self._load_where(ExperimentRow.id == experiment_id)
        return found[0] if found else None

    async def load_by_external_id(self, external_id: str) -> ExperimentRecord | None:
        """Load the experiment that its user knows by a name of his own."""
        found = await self._load_where(ExperimentRow.external_id == external_id)
        return found[0] if found else None

    async def load_open(self) -> list[ExperimentRecord]:
        """Load the experiments that this master runs and that have not ended."""
        return await self._load_where(
            ExperimentRow.state.not_in(_FINAL), ExperimentRow.unmanaged.is_(False)
        )

    async def load_job_ids(self, experiment_ids: Collection[int]) -> list[JobId]:
        """Load the jobs of some experiments."""
        statement = select(ExperimentRow.job_id).where(ExperimentRow.id.in_(experiment_ids))
        async with self._database.reading() as session:
            return [JobId(one) for one in await session.scalars(statement)]

    async def load_files(self, experiment_id: int) -> ExperimentFiles:
        """Load what all trials of an experiment find."""
        async with self._database.reading() as session:
            row = await session.get_one(ExperimentFilesRow, experiment_id)
        return ExperimentFiles(tgz=row.tgz, private_key=row.private_key, public_key=row.public_key)

    async def load_trials(self, experiment_id: int) -> list[TrialRecord]:
        """Load the trials of an experiment, oldest first."""
        return await self._load_trials_where(TrialRow.experiment_id == experiment_id)

    async def load_trial(self, trial_id: int) -> TrialRecord | None:
        """Load one trial."""
        found = await self._load_trials_where(TrialRow.id == trial_id)
        return found[0] if found else None

    async def find_trial_of_task(self, task_id: str) -> int | None:
        """Find the trial that a task is one of."""
        async with self._database.reading() as session:
            row = await session.get(TrialTaskRow, task_id)
        return None if row is None else row.trial_id

    async def _load_where(self, *conditions: Any) -> list[ExperimentRecord]:
        from_projects = (
            select(ExperimentRow, ProjectRow.workspace_id)
            .join(ProjectRow, ProjectRow.id == ExperimentRow.project_id)
            .where(*conditions)
            .order_by(ExperimentRow.id)
        )
        async with self._database.reading() as session:
            rows = (await session.execute(from_projects)).all()
        return [_make_record(row, workspace_id) for row, workspace_id in rows]

    async def _load_trials_where(self, *conditions: Any) -> list[TrialRecord]:
        trials = select(TrialRow).where(*conditions).order_by(TrialRow.id)
        tasks = (
            select(TrialTaskRow)
            .join(TrialRow, TrialRow.id == TrialTaskRow.trial_id)
            .where(*conditions)
            .order_by(TrialTaskRow.trial_id, TrialTaskRow.number)
        )
        async with self._database.reading() as session:
            rows = (await session.scalars(trials)).all()
            task_rows = (await session.scalars(tasks)).all()
        task_ids: dict[int, list[TaskId]] = {row.id: [] for row in rows}
        for task in task_rows:
            task_ids[task.trial_id].append(TaskId(task.task_id))
        return [_make_trial(row, task_ids[row.id]) for row in rows]


def _changing(record: ExperimentRecord) -> dict[str, Any]:
    return {
        "state": record.state.value,
        "is_continued": record.is_continued,
        "config": json.dumps(record.config),
        "resource_pool": record.pool,
        "manager": record.manager,
        "priority": record.priority,
        "ended_at": record.ended_at,
        "progress": record.progress,
        "search": None if record.search is None else json.dumps(record.search),
    }


def _changing_of_trial(record: TrialRecord) -> dict[str, Any]:
    return {
        "state": record.state.value,
        "run": record.run,
        "judged_run": record.judged_run,
        "restarts": record.restarts,
        "ports": record.ports,
        "ended_at": record.ended_at,
        "early_exit": record.early_exit,
        "excluded_nodes": record.excluded_nodes,
        "are_retries_canceled": record.are_retries_canceled,
        "log_signal": record.log_signal,
        "last_activity_at": record.last_activity_at,
    }


def _make_row(record: TrialRecord, project_id: int) -> TrialRow:
    return TrialRow(
        experiment_id=record.experiment_id,
        project_id=project_id,
        request_id=record.request_id,
        external_id=record.external_id,
        hparams=dict(record.hparams),
        seed=record.seed,
        started_at=record.started_at,
        source_checkpoint=record.source_checkpoint,
        summary_metrics={},
        runner_state="",
        **_changing_of_trial(record),
    )


def _make_record(row: ExperimentRow, workspace_id: int) -> ExperimentRecord:
    return ExperimentRecord(
        id=row.id,
        job_id=JobId(row.job_id),
        owner_id=row.owner_id,
        project_id=row.project_id,
        workspace_id=workspace_id,
        unmanaged=row.unmanaged,
        external_id=row.external_id,
        parent_id=row.parent_id,
        seed=row.seed,
        slots_per_trial=row.slots_per_trial,
        original_config=row.original_config,
        started_at=row.started_at,
        state=RunState(row.state),
        config=json.loads(row.config),
        name=row.name,
        description=row.description,
        labels=list(row.labels),
        is_continued=row.is_continued,
        pool=row.resource_pool,
        manager=row.manager,
        priority=row.priority,
        ended_at=row.ended_at,
        progress=row.progress,
        search=None if row.search is None else json.loads(row.search),
        log_retention_days=row.log_retention_days,
    )


def _make_trial(row: TrialRow, task_ids: list[TaskId]) -> TrialRecord:
    return TrialRecord(
        id=row.id,
        experiment_id=row.experiment_id,
        request_id=row.request_id,
        external_id=row.external_id,
        hparams=row.hparams,
        seed=row.seed,
        started_at=row.started_at,
        source_checkpoint=row.source_checkpoint,
        state=RunState(row.state),
        task_ids=task_ids,
        run=row.run,
        judged_run=row.judged_run,
        restarts=row.restarts,
        ports=list(row.ports),
        ended_at=row.ended_at,
        early_exit=row.early_exit,
        excluded_nodes=list(row.excluded_nodes),
        are_retries_canceled=row.are_retries_canceled,
        log_signal=row.log_signal,
        last_activity_at=row.last_activity_at,
    )
