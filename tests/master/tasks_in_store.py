"""Tasks put straight into a master's database, for tests of what only needs to know them."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import update

from shipway_master.store.database import Database
from shipway_master.store.tasks import TaskRow
from tests.master.running import ADMIN_ID


async def add_task(database: Database, task_id: str, *, ended_at: datetime | None = None) -> None:
    """Write down a task that runs, or has ended."""
    async with database.writing() as session:
        session.add(
            TaskRow(
                task_id=task_id,
                task_type="COMMAND",
                job_id=f"job-of-{task_id}",
                owner_id=ADMIN_ID,
                workspace_id=1,
                description="",
                config="{}",
                given_config="",
                resource_pool="default",
                manager="agents",
                slots=0,
                priority=42,
                state="RUNNING" if ended_at is None else "TERMINATED",
                started_at=datetime.now(UTC),
                ended_at=ended_at,
            )
        )


async def end_task(database: Database, task_id: str) -> None:
    """Write down that a task has ended just now."""
    async with database.writing() as session:
        statement = update(TaskRow).where(TaskRow.task_id == task_id)
        await session.execute(statement.values(ended_at=datetime.now(UTC), state="TERMINATED"))
