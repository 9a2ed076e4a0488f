"""Dispatches in the database."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import delete, select

from shipway_master.allocations.ids import AllocationId, ResourcesId
from shipway_master.store.database import Database
from shipway_master.store.dispatches import DispatchRow


class Phase(StrEnum):
    """How far a dispatch is, for who finds it after a restart."""

    LAUNCHING = "LAUNCHING"
    """The launch was begun; whether it arrived is not known."""
    WATCHED = "WATCHED"
    OVER = "OVER"
    """The job is over or unwanted; the launcher may still have to end it and remove its files."""


@dataclass(slots=True, kw_only=True)
class DispatchRecord:
    """What must be known of a dispatch to find it again."""

    id: AllocationId
    resources_id: ResourcesId
    pool: str
    owner: str
    payload: str
    phase: Phase = Phase.LAUNCHING
    job_id: str | None = None
    """Slurm's id; told in the task's log once it is here."""
    reason: str = ""
    """The last reason word that the queue gave, so that each is told once."""


class DispatchRecords:
    """Reads and writes the dispatches of one resource manager."""

    def __init__(self, database: Database, manager: str) -> None:
        self._database = database
        self._manager = manager

    async def save(self, record: DispatchRecord) -> None:
        """Store a dispatch as it is now."""
        row = DispatchRow(
            dispatch_id=record.id,
            manager=self._manager,
            resources_id=record.resources_id,
            resource_pool=record.pool,
            owner=record.owner,
            payload=record.payload,
            phase=record.phase.value,
            job_id=record.job_id,
            reason=record.reason,
        )
        async with self._database.writing() as session:
            await session.merge(row)

    async def remove(self, dispatch_id: AllocationId) -> None:
        """Forget a dispatch that the launcher has forgotten, too."""
        async with self._database.writing() as session:
            await session.execute(delete(DispatchRow).where(DispatchRow.dispatch_id == dispatch_id))

    async def load_all(self) -> list[DispatchRecord]:
        """Load all dispatches of this manager."""
        statement = select(DispatchRow).where(DispatchRow.manager == self._manager)
        async with self._database.reading() as session:
            rows = (await session.scalars(statement)).all()
        return [
            DispatchRecord(
                id=AllocationId(row.dispatch_id),
                resources_id=ResourcesId(row.resources_id),
                pool=row.resource_pool,
                owner=row.owner,
                payload=row.payload,
                phase=Phase(row.phase),
                job_id=row.job_id,
                reason=row.reason or "",
            )
            for row in rows
        ]
