"""The checkpoint that a trial goes on from."""

from __future__ import annotations

from sqlalchemy import select

from shipway_master.checkpoints.state import CheckpointState
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database


async def find_latest(database: Database, trial_id: int) -> tuple[str, int] | None:
    """Find the newest whole checkpoint of a trial: its UUID, and the steps it holds.

    The newest is the one that was reported last, whatever the clock of its writer says.
    """
    statement = (
        select(CheckpointRow.uuid, CheckpointRow.steps_completed)
        .where(
            CheckpointRow.trial_id == trial_id,
            CheckpointRow.state == CheckpointState.COMPLETED.value,
        )
        .order_by(CheckpointRow.id.desc())
        .limit(1)
    )
    async with database.reading() as session:
        found = (await session.execute(statement)).one_or_none()
    return None if found is None else (found.uuid, found.steps_completed)
