"""What trials leave beside their own rows, removed with them: logs and tasks."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Delete, delete, select

from shipway_master.checkpoints.gc import CollectionFailed
from shipway_master.errors import MasterError
from shipway_master.experiments.errors import ExperimentRefused
from shipway_master.logbook import LogBook
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow, TrialTaskRow
from shipway_master.store.tasks import TaskRow
from shipway_master.tasks.errors import TaskRefused

NOT_DELETED = (CollectionFailed, MasterError, TaskRefused, ExperimentRefused)
"""What may keep a deletion from coming to its end."""


async def remove_logs(
    database: Database, logbook: LogBook, of_trials: ColumnElement[bool]
) -> Delete:
    """Remove the logs of trials that have ended.

    Args:
        of_trials: Which trials, by a condition on their rows.

    Returns:
        The statement that removes their tasks, for the transaction that removes the trials.
    """
    task_ids = (
        select(TrialTaskRow.task_id)
        .join(TrialRow, TrialRow.id == TrialTaskRow.trial_id)
        .where(of_trials)
    )
    async with database.reading() as session:
        found = (await session.scalars(task_ids)).all()
    for task_id in found:
        await logbook.remove(task_id)
    return delete(TaskRow).where(TaskRow.task_id.in_(task_ids))
