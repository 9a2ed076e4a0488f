"""Whose tasks are and when they ended, as the database has it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from shipway_master.errors import NotFound
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow
from shipway_master.store.tasks import TaskRow


class StoredTasks:
    """Knows the tasks of the database; whoever ends one calls `LogBook.announce_end` after it.

    A trial that runs elsewhere is no task here, and has the id of one: it ends with the trial.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end_of(self, task_id: str) -> datetime | None:
        """See `TaskEnds`."""
        return (await self._find(task_id))[1]

    async def owner_of(self, task_id: str) -> int:
        """Tell which user *task_id* belongs to; raises as `end_of`."""
        return (await self._find(task_id))[0]

    async def _find(self, task_id: str) -> tuple[int, datetime | None]:
        tasks = select(TaskRow.owner_id, TaskRow.ended_at).where(TaskRow.task_id == task_id)
        elsewhere = (
            select(ExperimentRow.owner_id, TrialRow.ended_at)
            .join(TrialRow, TrialRow.experiment_id == ExperimentRow.id)
            .join(TrialTaskRow, TrialTaskRow.trial_id == TrialRow.id)
            .where(TrialTaskRow.task_id == task_id, ExperimentRow.unmanaged)
        )
        async with self._database.reading() as session:
            for statement in (tasks, elsewhere):
                row = (await session.execute(statement)).one_or_none()
                if row is not None:
                    return row[0], row[1]
        raise NotFound("task", task_id)
