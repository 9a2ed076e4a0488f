"""Checkpoints in the database: reported, changed, and counted with their trial."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.state import WITH_FILES, CheckpointState, after_removal
from shipway_master.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from shipway_master.store.checkpoints import CheckpointRow, StorageRow
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.models import ModelRow, ModelVersionRow

Item = TypeVar("Item")

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BATCH = 500
"""Databases limit the values of one statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A checkpoint as its writer tells of it."""

    uuid: str
    task_id: str
    allocation_id: str | None
    trial_id: int
    reported_at: datetime
    resources: Mapping[str, int] = field(repr=False)
    meta: Mapping[str, Any] = field(repr=False)
    steps_completed: int
    storage_id: int | None


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint with the trial and the experiment that it belongs to."""

    row: CheckpointRow
    trial: TrialRow
    experiment: ExperimentRow


def parse_uuid(text: str) -> str:
    """Write the UUID of a checkpoint as it is stored: it is a folder's name, too.

    Raises:
        InvalidArgument: It is none.
    """
    lower = text.lower()
    if not _UUID.fullmatch(lower):
        raise InvalidArgument(f"checkpoint {text[:80]!r} is no UUID")
    return lower


class CheckpointRecords:
    """Reads and writes checkpoints."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, report: Report) -> None:
        """Store a checkpoint; a repeated report changes what has not been removed meanwhile.

        Raises:
            AlreadyExists: Another trial has one of that UUID.
            InvalidArgument: There is no such storage, or it is another user's.
        """
        try:
            async with self._database.writing() as session:
                await _store(session, report)
        except IntegrityError as error:
            raise _taken(report.uuid) from error

    async def get(self, uuid: str) -> Found:
        """Find one checkpoint.

        Raises:
            NotFound: There is none of that UUID.
        """
        async with self._database.reading() as session:
            return (await load_found(session, [parse_uuid(uuid)]))[0]

    async def set_meta(self, uuid: str, meta: Mapping[str, Any]) -> Found:
        """Replace the writer's own data of a checkpoint; raises as `get`.

        The steps it holds stay in there if they are not given: clients look for them.
        """
        async with self._database.writing() as session:
            found = (await load_found(session, [parse_uuid(uuid)]))[0]
            found.row.meta = {"steps_completed": found.row.steps_completed, **meta}
        return found

    async def set_left(self, left: Mapping[str, Mapping[str, int]]) -> None:
        """Note which files of checkpoints, by their UUIDs, are left.

        Raises:
            NotFound: There is no checkpoint of one of the UUIDs; nothing is noted then.
            FailedPrecondition: One is registered as a model's version, and files of it would go.
        """
        async with self._database.writing() as session:
            await lock_trials(session, left)
            found = await load_found(session, left)
            await require_unregistered(session, [one.row for one in found])
            for one in found:
                row, files = one.row, left[one.row.uuid]
                state = after_removal(CheckpointState(row.state), row.resources, files)
                row.state = state.value
                row.resources = {} if state is CheckpointState.DELETED else dict(files)
                row.size_bytes = sum(row.resources.values())
            await session.flush()
            for trial in {one.trial.id: one.trial for one in found}.values():
                await _count(session, trial)


async def load_found(session: AsyncSession, uuids: Collection[str]) -> list[Found]:
    """Load checkpoints by their UUIDs, each once, in the order of these.

    Raises:
        NotFound: There is none of one of the UUIDs.
    """
    wanted = list(dict.fromkeys(uuids))
    known: dict[str, Found] = {}
    for batch in _batches(wanted):
        statement = (
            select(CheckpointRow, TrialRow, ExperimentRow)
            .join(TrialRow, TrialRow.id == CheckpointRow.trial_id)
            .join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
            .where(CheckpointRow.uuid.in_(batch))
        )
        for row, trial, experiment in await session.execute(statement):
            known[row.uuid] = Found(row, trial, experiment)
    for uuid in wanted:
        if uuid not in known:
            raise NotFound("checkpoint", uuid)
    return [known[uuid] for uuid in wanted]


async def lock_trials(session: AsyncSession, uuids: Collection[str]) -> None:
    """Let nobody else change the trials of checkpoints until the transaction ends.

    Held by whoever decides something about checkpoints, before he looks at them.
    """
    ids: set[int] = set()
    for batch in _batches(list(uuids)):
        statement = select(CheckpointRow.trial_id).where(CheckpointRow.uuid.in_(batch))
        ids.update(await session.scalars(statement))
    for trial_id in sorted(ids):
        await session.get(TrialRow, trial_id, with_for_update={"key_share": True})


async def require_unregistered(session: AsyncSession, rows: Collection[CheckpointRow]) -> None:
    """Protect what has a name in the model registry.

    Raises:
        FailedPrecondition: One is a version of a model.
    """
    for batch in _batches([row.id for row in rows]):
        statement = (
            select(CheckpointRow.uuid, ModelRow.name, ModelVersionRow.number)
            .join(ModelVersionRow, ModelVersionRow.checkpoint_id == CheckpointRow.id)
            .join(ModelRow, ModelRow.id == ModelVersionRow.model_id)
            .where(CheckpointRow.id.in_(batch))
            .limit(1)
        )
        found = (await session.execute(statement)).one_or_none()
        if found is not None:
            uuid, name, number = found
            raise FailedPrecondition(
                f"checkpoint {uuid} is version {number} of the model {name!r}: delete that first"
            )


async def _store(session: AsyncSession, report: Report) -> None:
    # Locked, so that the count is right whatever else is reported at the same time.
    trial = await session.get(TrialRow, report.trial_id, with_for_update={"key_share": True})
    if trial is None:
        raise NotFound("trial", report.trial_id)
    await _require_storage(session, report, trial)
    statement = select(CheckpointRow).where(CheckpointRow.uuid == report.uuid)
    row = await session.scalar(statement)
    if row is None:
        row = CheckpointRow(
            uuid=report.uuid, trial_id=report.trial_id, state=CheckpointState.COMPLETED.value
        )
        session.add(row)
    elif row.trial_id != report.trial_id:
        raise _taken(report.uuid)
    elif row.state != CheckpointState.COMPLETED.value:
        return
    row.task_id, row.allocation_id = report.task_id, report.allocation_id
    row.reported_at = report.reported_at
    row.resources, row.meta = dict(report.resources), dict(report.meta)
    row.steps_completed, row.storage_id = report.steps_completed, report.storage_id
    row.size_bytes = sum(report.resources.values())
    await session.flush()
    await _count(session, trial)


async def _require_storage(session: AsyncSession, report: Report, trial: TrialRow) -> None:
    if report.storage_id is None:
        return
    storage = await session.get(StorageRow, report.storage_id)
    experiment = await session.get_one(ExperimentRow, trial.experiment_id)
    if storage is None or storage.owner_id != experiment.owner_id:
        raise InvalidArgument(f"storage_id {report.storage_id}: there is no such storage")


async def _count(session: AsyncSession, trial: TrialRow) -> None:
    states = [state.value for state in WITH_FILES]
    statement = select(func.count(), func.coalesce(func.sum(CheckpointRow.size_bytes), 0)).where(
        CheckpointRow.trial_id == trial.id, CheckpointRow.state.in_(states)
    )
    count, size = (await session.execute(statement)).one()
    trial.checkpoint_count, trial.checkpoint_bytes = count, int(size)


def _batches(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _taken(uuid: str) -> AlreadyExists:
    return AlreadyExists(f"checkpoint {uuid} has been reported by another trial")
