"""The removal of checkpoints: by policy, by wish, and with their experiment."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection as SetOf
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.allocations.ids import TaskId
from shipway_master.background import Background
from shipway_master.checkpoints.choice import (
    choose,
    load_with_files,
    load_with_files_of_trial,
    read_own_policy,
)
from shipway_master.checkpoints.collection import (
    Collection,
    CollectionCaretaker,
    CollectionRecords,
    make_collection_config,
)
from shipway_master.checkpoints.records import Found, load_found, require_unregistered
from shipway_master.checkpoints.state import CheckpointState
from shipway_master.checkpoints.storages import load_storages, storage_of_experiment
from shipway_master.errors import FailedPrecondition, MasterError, NotFound
from shipway_master.queries.views import read_config
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.workspaces import ProjectRow
from shipway_master.tasks.creation import Wish
from shipway_master.tasks.errors import TaskRefused
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskState, TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces

log = logging.getLogger(__name__)

EVERYTHING: Final = ("**/*",)
"""The pattern by which a checkpoint goes as a whole."""
_BEING_DELETED: Final = ("DELETING", "DELETE_FAILED")
_OF_LATE: Final = timedelta(days=1)


class CollectionFailed(Exception):
    """Files of an experiment are still there; the text says which task should have removed them."""


@dataclass(slots=True)
class _Live:
    """A task that removes."""

    collection: Collection
    done: asyncio.Event = field(default_factory=asyncio.Event)
    record: TaskRecord | None = None
    """How it ended."""


class Collector:
    """Starts the tasks that remove checkpoints, and knows those that live.

    It is entered before the tasks of an earlier process are taken up.
    """

    def __init__(self, database: Database, tasks: Tasks, workspaces: Workspaces) -> None:
        self._database, self._tasks, self._workspaces = database, tasks, workspaces
        self._background = Background()
        self._is_open = False
        self._records = CollectionRecords(database)
        self._live: dict[TaskId, _Live] = {}
        self._choosing: set[int] = set()
        self._again: set[int] = set()
        tasks.entrust(
            TaskType.CHECKPOINT_GC, CollectionCaretaker(self._records, on_end=self._ended)
        )

    async def __aenter__(self) -> Self:
        """Learn of the tasks that an earlier process started."""
        await self._background.__aenter__()
        self._is_open = True
        for task_id, collection in (await self._records.take_up()).items():
            self._live[task_id] = _Live(collection)
            self._again.add(collection.experiment_id)  # more may have come up meanwhile
        return self

    async def __aexit__(self, *error: object) -> None:
        """Start nothing more; what runs goes on."""
        self._is_open = False
        await self._background.__aexit__(*error)

    async def resume(self) -> None:
        """Look after the experiments that have ended of late, once the tasks are there again.

        The master may have gone between an experiment's end and the look at its checkpoints.
        """
        statement = select(ExperimentRow.id).where(
            ExperimentRow.ended_at > datetime.now(UTC) - _OF_LATE,
            ExperimentRow.unmanaged.is_(False),
        )
        async with self._database.reading() as session:
            ended = (await session.scalars(statement)).all()
        self._background.start(self._collect_all(ended), name="checkpoints of ended experiments")

    async def collect(self, experiment_id: int) -> None:
        """Remove what the policy of an experiment does not keep.

        One task at a time does so: what comes up meanwhile is looked at when it has ended. A task
        that cannot be started is logged, and the checkpoints stay until this is called again.
        """
        if experiment_id in self._choosing or self._list_live(experiment_id):
            self._again.add(experiment_id)
            return
        self._choosing.add(experiment_id)
        try:
            await self._collect(experiment_id)
        except (MasterError, TaskRefused) as error:
            log.warning(
                "the checkpoints that a policy does not keep cannot be removed",
                extra={"experiment_id": experiment_id, "error": str(error)},
            )
        finally:
            self._choosing.discard(experiment_id)
        self._go_on(experiment_id)

    async def remove(self, uuids: SetOf[str], globs: SetOf[str]) -> None:
        """Start to remove what patterns match from checkpoints; what is gone already is left out.

        Args:
            globs: None: only look which files are there.

        Raises:
            NotFound: There is no checkpoint of one of the UUIDs.
            FailedPrecondition: One is a version of a registered model, or its storage is unknown.
            TaskRefused: The task cannot be started.
        """
        async with self._database.reading() as session:
            found = await load_found(session, uuids)
            if globs:
                await require_unregistered(session, [one.row for one in found])
            storages = await load_storages(session, [one.row for one in found])
        with_files = [one for one in found if one.row.state != CheckpointState.DELETED.value]
        await self._start(with_files, storages, tuple(globs))

    async def require_removable(self, experiment_id: int) -> None:
        """Protect experiments whose checkpoints have names in the model registry.

        Raises:
            FailedPrecondition: One is a version of a model.
        """
        async with self._database.reading() as session:
            found = await load_with_files(session, experiment_id)
            await require_unregistered(session, [one.row for one in found])

    async def empty(self, experiment_id: int) -> None:
        """Remove all files of an experiment that has ended, and wait until they are gone.

        Asked again after a crash of the master, it waits for what it had started before.

        Raises:
            CollectionFailed: Some of them are still there.
            FailedPrecondition: One is a version of a registered model.
            TaskRefused: A task cannot be started.
        """
        await self.require_removable(experiment_id)
        for live in self._list_live(experiment_id):
            await live.done.wait()
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, experiment_id)
            if experiment is None:
                return
            found = await load_with_files(session, experiment_id)
            storages = await load_storages(session, [one.row for one in found])
            has_run = await _has_run(session, experiment_id)
        started = await self._start(found, storages, EVERYTHING)
        if has_run and storage_of_experiment(experiment):
            started.append(await self._start_one(experiment, _list_tensorboards(experiment)))
        await _require_done(started)

    async def require_trial_removable(self, trial_id: int) -> None:
        """Protect a trial as `require_removable` does an experiment; raises as that."""
        async with self._database.reading() as session:
            found = await load_with_files_of_trial(session, trial_id)
            await require_unregistered(session, [one.row for one in found])

    async def empty_trial(self, experiment_id: int, trial_id: int) -> None:
        """Remove the checkpoints of a trial that has ended, and wait until they are gone.

        Raises as `empty`.
        """
        await self.require_trial_removable(trial_id)
        for live in self._list_live(experiment_id):
            await live.done.wait()
        async with self._database.reading() as session:
            found = await load_with_files_of_trial(session, trial_id)
            storages = await load_storages(session, [one.row for one in found])
        await _require_done(await self._start(found, storages, EVERYTHING))

    async def remove_tensorboards(self, experiment_id: int) -> None:
        """Remove the TensorBoard files of an experiment, and wait until they are gone.

        Raises:
            NotFound: There is no such experiment.
            FailedPrecondition: It does not say where they are.
            CollectionFailed: Some of them are still there.
            TaskRefused: The task cannot be started.
        """
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, experiment_id)
        if experiment is None:
            raise NotFound("experiment", experiment_id)
        if not storage_of_experiment(experiment):
            raise FailedPrecondition(
                f"experiment {experiment_id} does not say where its files are: "
                "it has no checkpoint_storage"
            )
        await _require_done([await self._start_one(experiment, _list_tensorboards(experiment))])

    # inside

    async def _collect_all(self, experiment_ids: Sequence[int]) -> None:
        for experiment_id in experiment_ids:
            await self.collect(experiment_id)

    async def _collect(self, experiment_id: int) -> None:
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, experiment_id)
            if experiment is None or experiment.state in _BEING_DELETED:
                return
            removed = await choose(session, experiment, read_own_policy(experiment))
            storages = await load_storages(session, [one.row for one in removed])
        await self._start(removed, storages, EVERYTHING)

    async def _start(
        self,
        found: Sequence[Found],
        storages: Mapping[int, dict[str, Any]],
        globs: Sequence[str],
    ) -> list[_Live]:
        """Start one task for each storage of each experiment."""
        groups: defaultdict[tuple[int, int | None], list[Found]] = defaultdict(list)
        for one in found:
            groups[one.experiment.id, one.row.storage_id].append(one)
        started: list[_Live] = []
        for (experiment_id, storage_id), its in groups.items():
            experiment = its[0].experiment
            storage = storages.get(storage_id or 0) or storage_of_experiment(experiment)
            if not storage:
                raise FailedPrecondition(
                    f"experiment {experiment_id} does not say where its checkpoints are: "
                    "it has no checkpoint_storage"
                )
            collection = Collection(
                experiment_id=experiment_id,
                storage=storage,
                uuids=[one.row.uuid for one in its],
                globs=globs,
            )
            started.append(await self._start_one(experiment, collection))
        return started

    async def _start_one(self, experiment: ExperimentRow, collection: Collection) -> _Live:
        async with self._database.reading() as session:
            project = await session.get_one(ProjectRow, experiment.project_id)
        wish = Wish(
            task_type=TaskType.CHECKPOINT_GC,
            owner_id=experiment.owner_id,
            terms=await self._workspaces.load_terms(project.workspace_id, is_new=False),
            config=make_collection_config(read_config(experiment), collection.storage),
        )
        record = self._tasks.draft(wish).record
        record.description = f"Checkpoint GC (Experiment {experiment.id})"
        await self._records.add(record.task_id, collection)
        live = self._live[record.task_id] = _Live(collection)
        try:
            await self._tasks.start(record)
        except MasterError:
            if self._live.pop(record.task_id, None) is not None:
                self._forget(record.task_id)
            raise
        return live

    def _list_live(self, experiment_id: int) -> list[_Live]:
        return [one for one in self._live.values() if one.collection.experiment_id == experiment_id]

    def _ended(self, record: TaskRecord) -> None:
        live = self._live.pop(record.task_id, None)
        if live is None:
            return
        live.record = record
        live.done.set()
        self._forget(record.task_id)
        self._go_on(live.collection.experiment_id)

    def _forget(self, task_id: TaskId) -> None:
        if self._is_open:
            self._background.start(self._records.remove(task_id), name=f"end of task {task_id}")

    def _go_on(self, experiment_id: int) -> None:
        """Look again, if something came up while nothing could be done about it."""
        is_busy = experiment_id in self._choosing or self._list_live(experiment_id)
        if experiment_id in self._again and not is_busy and self._is_open:
            self._again.discard(experiment_id)
            self._background.start(
                self.collect(experiment_id), name=f"checkpoints of experiment {experiment_id}"
            )


def _list_tensorboards(experiment: ExperimentRow) -> Collection:
    return Collection(
        experiment_id=experiment.id,
        storage=storage_of_experiment(experiment),
        uuids=(),
        globs=(),
        with_tensorboards=True,
    )


async def _require_done(lives: Iterable[_Live]) -> None:
    failed: list[TaskRecord] = []
    for live in lives:
        await live.done.wait()
        if live.record is not None and live.record.state is not TaskState.COMPLETED:
            failed.append(live.record)
    if failed:
        problems = [f"task {one.task_id}: {one.exit_status}" for one in failed]
        raise CollectionFailed(f"its files could not be removed ({'; '.join(problems)})")


async def _has_run(session: AsyncSession, experiment_id: int) -> bool:
    statement = select(func.max(TrialRow.run)).where(TrialRow.experiment_id == experiment_id)
    return bool(await session.scalar(statement))
