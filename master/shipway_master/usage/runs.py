"""The runs of tasks within a span of time, read page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import or_, select

from shipway_master.store.database import Database
from shipway_master.store.tasks import AllocationRow, TaskRow
from shipway_master.store.users import UserRow
from shipway_master.store.workspaces import WorkspaceRow

_RUNS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a task, as far as it lies within the span that was asked for."""

    allocation_id: str
    task_type: str
    """COMMAND, GENERIC, …"""
    user_id: int
    username: str
    workspace: str
    pool: str
    slots: int
    began_at: datetime
    ended_at: datetime
    """The end of the span, or now, for one that goes on."""

    @property
    def slot_seconds(self) -> float:
        """Seconds times slots."""
        return (self.ended_at - self.began_at).total_seconds() * self.slots


async def load_runs(
    database: Database, after: datetime, before: datetime
) -> AsyncGenerator[list[Run]]:
    """Iterate over the runs between two moments, in the order of their ids, a page at a time.

    What waited for its resources in that time, and no more, is not among them.
    """
    before = min(before, datetime.now(UTC))
    statement = (
        select(
            AllocationRow.allocation_id,
            AllocationRow.slots,
            AllocationRow.started_at,
            AllocationRow.ended_at,
            TaskRow.task_type,
            TaskRow.resource_pool,
            TaskRow.owner_id,
            UserRow.username,
            WorkspaceRow.name.label("workspace"),
        )
        .join(TaskRow, TaskRow.task_id == AllocationRow.task_id)
        .join(UserRow, UserRow.id == TaskRow.owner_id)
        .outerjoin(WorkspaceRow, WorkspaceRow.id == TaskRow.workspace_id)
        .where(AllocationRow.started_at < before)
        .where(or_(AllocationRow.ended_at.is_(None), AllocationRow.ended_at > after))
        .order_by(AllocationRow.allocation_id)
        .limit(_RUNS_AT_ONCE)
    )
    last = ""
    while True:
        async with database.reading() as session:
            page = statement.where(AllocationRow.allocation_id > last)
            rows = (await session.execute(page)).all()
        yield [
            Run(
                allocation_id=row.allocation_id,
                task_type=row.task_type,
                user_id=row.owner_id,
                username=row.username,
                workspace=row.workspace or "",
                pool=row.resource_pool,
                slots=row.slots,
                began_at=max(row.started_at, after),
                ended_at=before if row.ended_at is None else min(row.ended_at, before),
            )
            for row in rows
        ]
        if len(rows) < _RUNS_AT_ONCE:
            return
        last = rows[-1].allocation_id
