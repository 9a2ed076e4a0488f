"""The tasks that remove files from checkpoint storage: started, known, waited for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from shipway_master.allocations.ids import TaskId
from shipway_master.background import Background
from shipway_master.checkpoints.collection import (
    Collection,
    CollectionCaretaker,
    CollectionRecords,
    make_collection_config,
)
from shipway_master.checkpoints.records import Found
from shipway_master.checkpoints.storages import storage_of_experiment
from shipway_master.errors import FailedPrecondition
from shipway_master.queries.views import read_config
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.store.workspaces import ProjectRow
from shipway_master.tasks.creation import Wish
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskState, TaskType
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces


class CollectionFailed(Exception):
    """Files of an experiment are still there; the text says which task should have removed them."""


class CollectionLasts(Exception):
    """Files of an experiment are still being removed; the text says by which tasks."""


@dataclass(slots=True)
class Removal:
    """A task that removes."""

    task_id: TaskId
    collection: Collection
    done: asyncio.Event = field(default_factory=asyncio.Event)
    record: TaskRecord | None = None
    """How it ended."""


class Removals:
    """All tasks that remove; entered before those of an earlier process are taken up."""

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        workspaces: Workspaces,
        *,
        on_end: Callable[[int], None],
    ) -> None:
        """Be told by *on_end* of experiments for which one has ended; it must not wait."""
        self._database, self._tasks, self._workspaces = database, tasks, workspaces
        self._on_end = on_end
        self._records = CollectionRecords(database)
        self._live: dict[TaskId, Removal] = {}
        self._background: Background | None = None
        tasks.entrust(
            TaskType.CHECKPOINT_GC, CollectionCaretaker(self._records, on_end=self._ended)
        )

    async def __aenter__(self) -> Self:
        """Learn of the tasks that an earlier process started."""
        self._background = await Background().__aenter__()
        for task_id, collection in (await self._records.take_up()).items():
            self._live[task_id] = Removal(task_id, collection)
        return self

    async def __aexit__(self, *error: object) -> None:
        """Let go of the tasks, which go on."""
        background, self._background = self._background, None
        assert background is not None
        await background.__aexit__(*error)

    def list_experiments(self) -> set[int]:
        """The experiments for which something is removed."""
        return {one.collection.experiment_id for one in self._live.values()}

    def find_with_tensorboards(self, experiment_id: int) -> Removal | None:
        """Find the task that removes the TensorBoard files of an experiment."""
        return next(
            (
                one
                for one in self._live.values()
                if one.collection.experiment_id == experiment_id
                and one.collection.with_tensorboards
            ),
            None,
        )

    async def wait(self, experiment_id: int) -> None:
        """Wait for the end of all that is removed for an experiment, however it ends."""
        for removal in list(self._live.values()):
            if removal.collection.experiment_id == experiment_id:
                await removal.done.wait()

    async def start(
        self,
        found: Sequence[Found],
        storages: Mapping[int, dict[str, Any]],
        globs: Sequence[str],
    ) -> list[Removal]:
        """Start one task for each storage of each experiment.

        Raises:
            FailedPrecondition: An experiment does not say where its checkpoints are, or one has got
                a name in the model registry.
            TaskRefused: A task cannot be started.
        """
        groups: defaultdict[tuple[int, int | None], list[Found]] = defaultdict(list)
        for one in found:
            groups[one.experiment.id, one.row.storage_id].append(one)
        started: list[Removal] = []
        for (experiment_id, storage_id), its in groups.items():
            experiment = its[0].experiment
            storage = storages.get(storage_id or 0) or storage_of_experiment(experiment)
            collection = Collection(
                experiment_id=experiment_id,
                storage=_require_storage(storage, experiment),
                uuids=[one.row.uuid for one in its],
                globs=globs,
            )
            started.append(await self._start_one(experiment, collection))
        return started

    async def start_with_tensorboards(self, experiment: ExperimentRow) -> Removal:
        """Start the task that removes the TensorBoard files of an experiment; raises as `start`."""
        storage = _require_storage(storage_of_experiment(experiment), experiment)
        collection = Collection(
            experiment_id=experiment.id, storage=storage, uuids=(), globs=(), with_tensorboards=True
        )
        return await self._start_one(experiment, collection)

    async def _start_one(self, experiment: ExperimentRow, collection: Collection) -> Removal:
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
        live = self._live[record.task_id] = Removal(record.task_id, collection)
        try:
            await self._tasks.start(record)
        except BaseException:
            self._forget(record.task_id)
            raise
        return live

    def _ended(self, record: TaskRecord) -> None:
        removal = self._forget(record.task_id)
        if removal is None:
            return
        removal.record = record
        removal.done.set()
        if self._background is not None:
            self._on_end(removal.collection.experiment_id)

    def _forget(self, task_id: TaskId) -> Removal | None:
        """Drop a task that removes nothing any more: what it was to remove has a name again."""
        removal = self._live.pop(task_id, None)
        if removal is not None and self._background is not None:
            self._background.start(self._records.remove(task_id), name=f"end of task {task_id}")
        return removal


async def require_done(removals: Sequence[Removal], *, limit_s: float | None = None) -> None:
    """Wait for tasks, and want all of them to have done their work.

    Raises:
        CollectionFailed: One has not.
        CollectionLasts: One has not ended in *limit_s* seconds; it goes on.
    """
    try:
        async with asyncio.timeout(limit_s):
            for one in removals:
                await one.done.wait()
    except TimeoutError:
        tasks = ", ".join(one.task_id for one in removals if not one.done.is_set())
        raise CollectionLasts(
            f"its files are not gone yet: task {tasks} goes on, and its log shows how far it is"
        ) from None
    ended = [one.record for one in removals if one.record is not None]
    failed = [record for record in ended if record.state is not TaskState.COMPLETED]
    if failed:
        problems = [f"task {one.task_id}: {one.exit_status}" for one in failed]
        raise CollectionFailed(f"its files could not be removed ({'; '.join(problems)})")


def _require_storage(storage: Mapping[str, Any], experiment: ExperimentRow) -> Mapping[str, Any]:
    if not storage:
        raise FailedPrecondition(
            f"experiment {experiment.id} does not say where its files are: "
            "it has no checkpoint_storage"
        )
    return storage
