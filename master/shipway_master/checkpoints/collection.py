"""The task that removes checkpoints: what it is made from, and how it is started.

Facts: task-environment.md 4.3, 6.1, 6.8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.allocations.ids import AllocationId, TaskId
from shipway_master.checkpoints.records import (
    Found,
    load_found,
    lock_trials,
    require_unregistered,
)
from shipway_master.errors import FailedPrecondition
from shipway_master.experiments.trialtask import make_task_config
from shipway_master.store.checkpoints import CollectionRow
from shipway_master.store.database import Database
from shipway_master.store.tasks import TaskRow
from shipway_master.tasks.caretaker import OneRun
from shipway_master.tasks.files import DIRECTORY_TYPE, FILE_TYPE, RUN_DIR, TaskFile
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.model import Resources, SlurmOptions
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.service import Equipment

_FOLDER: Final = f"{RUN_DIR}/checkpoint_gc"

_ENTRYPOINT: Final = r"""#!/bin/sh
# Removes files from checkpoint storage with the harness, the Python package `determined`, which
# tells the master what is left.
python=${DET_PYTHON_EXECUTABLE:-python3}
PATH="$PYTHONUSERBASE/bin:$PATH"
command -v "$python" >/dev/null || {
    echo "checkpoints are removed with Python, and there is no $python in PATH ($PATH)" >&2
    exit 127
}
"$python" -m determined.exec.gc_checkpoints "$@" && exit
code=$?
"$python" -c 'import determined' 2>/dev/null || {
    echo "checkpoints are removed with the Python package determined, which $python does not" \
        "have here: nothing was removed" >&2
    exit 127
}
exit "$code"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What one task is to remove."""

    experiment_id: int
    storage: Mapping[str, Any] = field(repr=False)
    """Where, secrets included."""
    uuids: Sequence[str]
    globs: Sequence[str]
    """What of each; none: only look what is there."""
    with_tensorboards: bool = False
    """Whether the TensorBoard files of the experiment go, too."""


def make_collection_config(
    experiment: Mapping[str, Any], storage: Mapping[str, Any]
) -> dict[str, Any]:
    """Make the configuration of the task from its experiment's: it runs where trials could."""
    config = make_task_config({**experiment, "checkpoint_storage": storage})
    config = config.model_copy(
        update={
            "description": "",
            "entrypoint": (),
            "resources": Resources(slots=0),
            "slurm": SlurmOptions(),
        }
    )
    return config.model_dump(mode="json", exclude_unset=True, context={"reveal": True})


def equip_collection(collection: Collection, user: AgentUser) -> Equipment:
    """Say how the task is started, and with which files."""
    make_file = partial(TaskFile, uid=user.uid, gid=user.gid)
    entrypoint = f"{_FOLDER}/gc-checkpoints-entrypoint.sh"
    storage, uuids, globs = (
        f"{_FOLDER}/{name}.json"
        for name in ("storage_config", "checkpoints_to_delete", "checkpoints_globs")
    )
    data = [(storage, collection.storage), (uuids, collection.uuids), (globs, collection.globs)]
    argv = [
        *(entrypoint, "--experiment-id", str(collection.experiment_id)),
        *("--storage-config", storage, "--delete", uuids, "--globs", globs),
    ]
    if collection.with_tensorboards:
        argv.append("--delete-tensorboards")
    return Equipment(
        argv=argv,
        files=[
            make_file(path=_FOLDER, type=DIRECTORY_TYPE, mode=0o700),
            make_file(path=entrypoint, type=FILE_TYPE, content=_ENTRYPOINT.encode(), mode=0o700),
            *(
                make_file(path=path, type=FILE_TYPE, content=json.dumps(one).encode(), mode=0o600)
                for path, one in data
            ),
        ],
        label=f"gc-{collection.experiment_id}",
    )


class CollectionRecords:
    """What is to be removed, in the database: it must be known before the task is."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, task_id: TaskId, collection: Collection) -> None:
        """Store what a task is to remove.

        Raises:
            FailedPrecondition: A checkpoint of that has got a name in the model registry.
        """
        row = CollectionRow(
            task_id=task_id,
            experiment_id=collection.experiment_id,
            storage=json.dumps(collection.storage),
            uuids=list(collection.uuids),
            globs=list(collection.globs),
            with_tensorboards=collection.with_tensorboards,
        )
        async with self._database.writing() as session:
            if collection.globs:
                await lock_trials(session, collection.uuids)
                found = await load_found(session, collection.uuids)
                await require_unregistered(session, [one.row for one in found])
            session.add(row)

    async def remove(self, task_id: TaskId) -> None:
        """Forget what a task was to remove: it has ended."""
        async with self._database.writing() as session:
            await session.execute(delete(CollectionRow).where(CollectionRow.task_id == task_id))

    async def get(self, task_id: TaskId) -> Collection:
        """Load what a task is to remove."""
        async with self._database.reading() as session:
            return _make(await session.get_one(CollectionRow, task_id))

    async def take_up(self) -> dict[TaskId, Collection]:
        """Load what the tasks that live are to remove, and forget what those that ended were to."""
        live = select(TaskRow.task_id).where(TaskRow.ended_at.is_(None))
        async with self._database.writing() as session:
            ended = delete(CollectionRow).where(CollectionRow.task_id.not_in(live))
            await session.execute(ended)
            rows = (await session.scalars(select(CollectionRow))).all()
        return {TaskId(row.task_id): _make(row) for row in rows}


async def require_staying(session: AsyncSession, found: Found) -> None:
    """Refuse a checkpoint that is about to be removed; its trial is locked.

    Raises:
        FailedPrecondition: It is.
    """
    statement = select(CollectionRow).where(CollectionRow.experiment_id == found.experiment.id)
    for row in await session.scalars(statement):
        if row.globs and found.row.uuid in row.uuids:
            raise FailedPrecondition(f"checkpoint {found.row.uuid} is being removed")


class CollectionCaretaker(OneRun):
    """Decides about the tasks that remove checkpoints: each has one run, unless that was lost."""

    def __init__(self, records: CollectionRecords, *, on_end: Callable[[TaskRecord], None]) -> None:
        self._records, self._on_end = records, on_end

    async def equip(
        self, record: TaskRecord, allocation_id: AllocationId, user: AgentUser
    ) -> Equipment:
        """Say how a run is started."""
        return equip_collection(await self._records.get(record.task_id), user)

    async def load_context(self, record: TaskRecord) -> bytes:
        """It fetches none."""
        return b""

    def ended(self, record: TaskRecord) -> None:
        """Tell whoever waits for it."""
        self._on_end(record)


def _make(row: CollectionRow) -> Collection:
    return Collection(
        experiment_id=row.experiment_id,
        storage=json.loads(row.storage),
        uuids=row.uuids,
        globs=row.globs,
        with_tensorboards=row.with_tensorboards,
    )
