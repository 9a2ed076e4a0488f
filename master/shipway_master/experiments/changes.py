"""What people change about experiments, live or not: stopped, deleted, continued, patched."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from google.protobuf.struct_pb2 import ListValue
from sqlalchemy import delete, select, update

from shipway_master.background import Background
from shipway_master.errors import MasterError
from shipway_master.experiments.config import BadExperimentConfig, override
from shipway_master.experiments.errors import (
    BadExperiment,
    ExperimentInWrongState,
    ExperimentRefused,
)
from shipway_master.experiments.experiments import Experiments
from shipway_master.experiments.records import ExperimentRecord
from shipway_master.experiments.states import RunState
from shipway_master.logbook import LogBook
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow
from shipway_master.store.tasks import TaskRow
from shipway_master.structs import list_to_plain
from shipway_master.tasks.errors import TaskRefused
from shipway_master.tasks.places import Places
from shipway_master.tasks.tasks import Tasks
from shipway_proto.determined.experiment.v1.experiment_pb2 import PatchExperiment

log = logging.getLogger(__name__)


class Storage(Protocol):
    """Who removes checkpoints."""

    async def collect(self, experiment_id: int) -> None:
        """Remove what the experiment's policy does not keep."""
        ...

    async def require_removable(self, experiment_id: int) -> None:
        """Protect checkpoints that have a name in the model registry."""
        ...

    async def empty(self, experiment_id: int) -> None:
        """Remove all of an experiment's files, and wait until they are gone."""
        ...


class ExperimentChanges:
    """Changes experiments; who may do so is the callers' business."""

    def __init__(
        self,
        database: Database,
        experiments: Experiments,
        *,
        tasks: Tasks,
        places: Places,
        storage: Storage,
        logbook: LogBook,
        background: Background,
    ) -> None:
        self._database = database
        self._experiments = experiments
        self._tasks, self._places = tasks, places
        self._storage = storage
        self._logbook = logbook
        self._background = background

    async def stop(self, record: ExperimentRecord, wish: RunState, *, reason: str) -> None:
        """Have an experiment come to its end; one that has ended stays as it is."""
        live = self._experiments.find(record.id)
        if live is not None:
            await live.stop(wish, reason=reason)

    # deleted

    async def delete(self, record: ExperimentRecord) -> None:
        """Begin to delete an experiment with all that it left; goes on in the background.

        Raises:
            ExperimentInWrongState: It has not ended.
            FailedPrecondition: A checkpoint of it is a version of a registered model.
        """
        if not record.state.is_final or self._experiments.find(record.id) is not None:
            raise ExperimentInWrongState(
                f"experiment {record.id} has not ended: cancel or kill it before you delete it"
            )
        await self._storage.require_removable(record.id)
        await self._set_state(record.id, RunState.DELETING)
        self._background.start(self._delete(record.id), name=f"deletion of {record.id}")

    async def resume_deletions(self) -> None:
        """Go on with what a restart of the master interrupted."""
        statement = select(ExperimentRow.id).where(ExperimentRow.state == RunState.DELETING.value)
        async with self._database.reading() as session:
            found = (await session.scalars(statement)).all()
        for experiment_id in found:
            self._background.start(self._delete(experiment_id), name=f"deletion of {experiment_id}")

    async def _delete(self, experiment_id: int) -> None:
        try:
            await self._storage.empty(experiment_id)
            await self._delete_rows(experiment_id)
        except (MasterError, TaskRefused, ExperimentRefused, RuntimeError) as error:
            log.warning(
                "an experiment cannot be deleted",
                extra={"experiment_id": experiment_id, "error": str(error)},
            )
            await self._set_state(experiment_id, RunState.DELETE_FAILED)
        else:
            log.info("experiment deleted", extra={"experiment_id": experiment_id})

    async def _delete_rows(self, experiment_id: int) -> None:
        tasks = (
            select(TrialTaskRow.task_id)
            .join(TrialRow, TrialRow.id == TrialTaskRow.trial_id)
            .where(TrialRow.experiment_id == experiment_id)
        )
        async with self._database.reading() as session:
            task_ids = (await session.scalars(tasks)).all()
        for task_id in task_ids:
            await self._logbook.remove(task_id)
        async with self._database.writing() as session:
            for task_id in task_ids:
                await session.execute(delete(TaskRow).where(TaskRow.task_id == task_id))
            await session.execute(delete(ExperimentRow).where(ExperimentRow.id == experiment_id))

    async def _set_state(self, experiment_id: int, state: RunState) -> None:
        statement = update(ExperimentRow).where(ExperimentRow.id == experiment_id)
        async with self._database.writing() as session:
            await session.execute(statement.values(state=state.value))

    # continued

    async def go_on(self, record: ExperimentRecord, override_text: str) -> None:
        """Let an experiment that has ended train on, each trial from its newest checkpoint.

        All trials of a single search go on; of a larger one those that are not complete.

        Raises:
            ExperimentInWrongState: It has not ended, or all is complete.
            BadExperiment: The configuration must not be changed so.
        """
        if not record.state.is_final or record.unmanaged:
            raise ExperimentInWrongState(f"experiment {record.id} has not ended")
        if record.state in (RunState.DELETING, RunState.DELETE_FAILED):
            raise ExperimentInWrongState(f"experiment {record.id} is being deleted")
        try:
            config = await asyncio.to_thread(override, record.config, override_text)
        except BadExperimentConfig as error:
            raise BadExperiment(str(error)) from error
        trials = await self._experiments.records.load_trials(record.id)
        is_single = config.searcher.name == "single"
        chosen = [one for one in trials if is_single or one.state is not RunState.COMPLETED]
        if not chosen:
            raise ExperimentInWrongState(
                f"all trials of experiment {record.id} are complete: there is nothing to go on with"
            )
        record.config, record.is_continued = config.to_plain(reveal=True), True
        await self._experiments.go_on(record, chosen)

    # patched

    async def patch(self, record: ExperimentRecord, wish: PatchExperiment) -> None:
        """Change what a request has.

        Raises:
            BadExperiment: A value cannot be.
            ExperimentInWrongState: The experiment has ended, and its place cannot be changed.
        """
        if wish.HasField("resources"):
            await self._patch_resources(record, wish.resources)
        columns: dict[str, Any] = {
            field: getattr(wish, field).value
            for field in ("name", "description", "notes")
            if wish.HasField(field)
        }
        if "name" in columns and not columns["name"].strip():
            raise BadExperiment("name: must not be empty")
        if wish.HasField("labels"):
            columns["labels"] = _read_labels(wish.labels)
        if columns:
            statement = update(ExperimentRow).where(ExperimentRow.id == record.id)
            async with self._database.writing() as session:
                await session.execute(statement.values(**columns))
        if wish.HasField("checkpoint_storage"):
            await self._patch_storage(record, wish.checkpoint_storage)

    async def _patch_resources(
        self, record: ExperimentRecord, wish: PatchExperiment.PatchResources
    ) -> None:
        live = self._experiments.find(record.id)
        if live is None:
            raise ExperimentInWrongState(
                f"experiment {record.id} has ended: it takes no resources any more"
            )
        tasks = [
            task
            for task in self._tasks.list_open()
            if task.job_id == record.job_id and not task.state.is_final
        ]
        for task in tasks:
            if wish.HasField("priority"):
                await self._places.set_priority(task, wish.priority)
            if wish.HasField("weight"):
                await self._places.set_weight(task, wish.weight)
        if wish.HasField("max_slots") and wish.max_slots < 0:
            raise BadExperiment(f"max_slots must not be negative, and is {wish.max_slots}")

        def change(record: ExperimentRecord) -> None:
            resources = record.config.setdefault("resources", {})
            if wish.HasField("priority"):
                record.priority = resources["priority"] = wish.priority
            if wish.HasField("weight"):
                resources["weight"] = wish.weight
            if wish.HasField("max_slots"):
                resources["max_slots"] = wish.max_slots

        await live.update(change)
        if wish.HasField("max_slots"):
            self._tasks.renew_limits(record.job_id)

    async def _patch_storage(
        self, record: ExperimentRecord, wish: PatchExperiment.PatchCheckpointStorage
    ) -> None:
        counts = {field.name: getattr(wish, field.name) for field in wish.DESCRIPTOR.fields}
        if any(count < 0 for count in counts.values()):
            raise BadExperiment(f"checkpoint_storage: numbers must not be negative: {counts}")
        if not record.config.get("checkpoint_storage"):
            raise BadExperiment(f"experiment {record.id} has no checkpoint_storage")

        def change(record: ExperimentRecord) -> None:
            record.config["checkpoint_storage"].update(counts)

        live = self._experiments.find(record.id)
        if live is not None:
            await live.update(change)
        else:
            change(record)
            await self._experiments.records.save(record)
        await self._storage.collect(record.id)


def _read_labels(message: ListValue) -> list[str]:
    labels = list_to_plain(message)
    if not all(isinstance(label, str) and label for label in labels):
        raise BadExperiment("labels: each must be a text that is not empty")
    return list(dict.fromkeys(labels))
