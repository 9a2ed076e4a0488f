"""Tasks put straight into a master's database, for tests of what only needs to know them."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import insert, update

from shipway_master.store.database import Database
from shipway_master.store.tasks import AllocationRow, TaskRow
from tests.master.running import ADMIN_ID


async def add_task(database: Database, task_id: str, *, ended_at: datetime | None = None) -> None:
    """Write down a task that runs, or has ended."""
    known = {
        "task_id": task_id,
        "task_type": "COMMAND",
        "job_id": f"job-of-{task_id}",
        "owner_id": ADMIN_ID,
        "state": "RUNNING" if ended_at is None else "TERMINATED",
        "started_at": datetime.now(UTC),
        "ended_at": ended_at,
    }
    # What these tests have no use for is empty, whatever it is.
    empty = {
        column.name: column.type.python_type()
        for column in TaskRow.__table__.columns
        if not column.nullable and column.name not in known
    }
    async with database.writing() as session:
        await session.execute(insert(TaskRow).values({**empty, **known}))


async def end_task(database: Database, task_id: str) -> None:
    """Write down that a task has ended just now."""
    async with database.writing() as session:
        statement = update(TaskRow).where(TaskRow.task_id == task_id)
        await session.execute(statement.values(ended_at=datetime.now(UTC), state="TERMINATED"))


async def add_run(
    database: Database,
    allocation_id: str,
    *,
    slots: int,
    began_at: datetime | None,
    ended_at: datetime | None = None,
    pool: str = "gpu",
    state: str | None = None,
) -> None:
    """Write down a run of a task of its own, which waits still if it never began."""
    task_id = allocation_id.rpartition(".")[0]
    await add_task(database, task_id, ended_at=ended_at)
    known = {
        "allocation_id": allocation_id,
        "task_id": task_id,
        "run": 1,
        "slots": slots,
        "state": state or ("RUNNING" if ended_at is None else "TERMINATED"),
        "requested_at": began_at or datetime.now(UTC),
        "started_at": began_at,
        "ended_at": ended_at,
    }
    async with database.writing() as session:
        of_task = update(TaskRow).where(TaskRow.task_id == task_id)
        await session.execute(of_task.values(resource_pool=pool, workspace_id=1))
        await session.execute(insert(AllocationRow).values(known))
