"""Whose tasks are and when they ended, as the database has it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select

from shipway_master.errors import NotFound
from shipway_master.store.database import Database
from shipway_master.store.tasks import TaskRow


class StoredTasks:
    """Knows the tasks of the database; whoever ends one calls `LogBook.announce_end` after it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end_of(self, task_id: str) -> datetime | None:
        """See `TaskEnds`."""
        statement = select(TaskRow.task_id, TaskRow.ended_at).where(TaskRow.task_id == task_id)
        async with self._database.reading() as session:
            row = (await session.execute(statement)).one_or_none()
        if row is None:
            raise NotFound("task", task_id)
        ended_at: datetime | None = row.ended_at
        return ended_at

    async def owner_of(self, task_id: str) -> int:
        """Tell which user *task_id* belongs to; raises as `end_of`."""
        statement = select(TaskRow.owner_id).where(TaskRow.task_id == task_id)
        async with self._database.reading() as session:
            owner_id = await session.scalar(statement)
        if owner_id is None:
            raise NotFound("task", task_id)
        return owner_id
