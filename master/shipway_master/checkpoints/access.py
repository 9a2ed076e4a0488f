"""Who may change the checkpoints of a trial."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.allocations.ids import AllocationId, get_task_id
from shipway_master.auth import Principal
from shipway_master.checkpoints.records import load_found, parse_uuid
from shipway_master.errors import PermissionDenied
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow


async def require_writer(session: AsyncSession, trial: TrialRow, asking: Principal) -> int:
    """Let the owner of a trial and administrators pass, and of tasks of trials only its own.

    Returns:
        The id of the owner.

    Raises:
        PermissionDenied: It is somebody else.
    """
    if asking.allocation_id is not None:
        task_id = get_task_id(AllocationId(asking.allocation_id))
        task = await session.get(TrialTaskRow, task_id)
        if task is not None and task.trial_id != trial.id:
            raise PermissionDenied("a trial may not change what belongs to another one")
    experiment = await session.get_one(ExperimentRow, trial.experiment_id)
    asking.require_owner_or_admin(experiment.owner_id)
    return experiment.owner_id


async def require_own(database: Database, uuids: Collection[str], asking: Principal) -> list[str]:
    """Let pass who may change all of some checkpoints, and return their UUIDs, each once.

    Raises:
        InvalidArgument: One is no UUID.
        NotFound: There is no checkpoint of one of the UUIDs.
        PermissionDenied: Not all are his.
    """
    async with database.reading() as session:
        found = await load_found(session, [parse_uuid(one) for one in uuids])
        for trial in {one.trial.id: one.trial for one in found}.values():
            await require_writer(session, trial, asking)
    return [one.row.uuid for one in found]
