"""What people change about experiments, live or not: stopped, deleted, continued, patched."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from google.protobuf.struct_pb2 import ListValue
from sqlalchemy import delete, select, update

from shipway_master.background import Background
from shipway_master.experiments.config import BadExperimentConfig, override
from shipway_master.experiments.errors import (
    BadExperiment,
    ExperimentInWrongState,
)
from shipway_master.experiments.experiment import LiveExperiment
from shipway_master.experiments.experiments import Experiments
from shipway_master.experiments.records import ExperimentRecord
from shipway_master.experiments.remains import NOT_DELETED, remove_logs
from shipway_master.experiments.states import RunState
from shipway_master.logbook import LogBook
from shipway_master.policies.model import Workload
from shipway_master.policies.records import PolicyRecords
from shipway_master.searchers.actions import Create
from shipway_master.searchers.searcher import Searcher
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.structs import list_to_plain
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecord
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
        self._policies = PolicyRecords(database)
        self._experiments = experiments
        self._tasks, self._places = tasks, places
        self._storage = storage
        self._logbook = logbook
        self._background = background
        self._going_on = asyncio.Lock()
        """Held by who decides whether something that has ended goes on, or goes."""
        self._deletions: dict[int, asyncio.Task[None]] = {}

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
        async with self._going_on:
            record = await self._experiments.load_record(record.id)
            if not record.state.is_final or self._experiments.find(record.id) is not None:
                raise ExperimentInWrongState(
                    f"experiment {record.id} has not ended: cancel or kill it before you delete it"
                )
            await self._storage.require_removable(record.id)
            await self._set_state(record.id, RunState.DELETING)
        self._start_deletion(record.id)

    async def delete_wholly(self, experiment_id: int) -> None:
        """Delete an experiment as `delete` does, and wait until it is gone.

        Raises:
            ExperimentNotFound: There is none.
            ExperimentInWrongState: It has not ended, or something of it cannot be removed.
            FailedPrecondition: A checkpoint of it is a version of a registered model.
        """
        await self.delete(await self._experiments.load_record(experiment_id))
        if (deletion := self._deletions.get(experiment_id)) is not None:
            await asyncio.wait([deletion])
        if await self._experiments.records.load(experiment_id) is not None:
            raise ExperimentInWrongState(
                f"experiment {experiment_id} cannot be deleted; the master's log says why"
            )

    async def resume_deletions(self) -> None:
        """Go on with what a restart of the master interrupted."""
        statement = select(ExperimentRow.id).where(ExperimentRow.state == RunState.DELETING.value)
        async with self._database.reading() as session:
            found = (await session.scalars(statement)).all()
        for experiment_id in found:
            self._start_deletion(experiment_id)

    def _start_deletion(self, experiment_id: int) -> None:
        """Begin to delete, unless that goes on already."""
        if experiment_id not in self._deletions:
            work, name = self._delete(experiment_id), f"deletion of {experiment_id}"
            deletion = self._background.start(work, name=name)
            self._deletions[experiment_id] = deletion
            deletion.add_done_callback(lambda _: self._deletions.pop(experiment_id, None))

    async def _delete(self, experiment_id: int) -> None:
        try:
            await self._storage.empty(experiment_id)
            await self._delete_rows(experiment_id)
        except NOT_DELETED as error:
            log.warning(
                "an experiment cannot be deleted",
                extra={"experiment_id": experiment_id, "error": str(error)},
            )
            await self._set_state(experiment_id, RunState.DELETE_FAILED)
        else:
            log.info("experiment deleted", extra={"experiment_id": experiment_id})

    async def _delete_rows(self, experiment_id: int) -> None:
        of_trials = TrialRow.experiment_id == experiment_id
        tasks = await remove_logs(self._database, self._logbook, of_trials)
        async with self._database.writing() as session:
            await session.execute(tasks)
            await session.execute(delete(ExperimentRow).where(ExperimentRow.id == experiment_id))

    async def _set_state(self, experiment_id: int, state: RunState) -> None:
        statement = update(ExperimentRow).where(ExperimentRow.id == experiment_id)
        async with self._database.writing() as session:
            await session.execute(statement.values(state=state.value))

    # continued

    async def go_on(self, record: ExperimentRecord, override_text: str) -> None:
        """Let an experiment that has ended train on, each trial from its newest checkpoint.

        All trials of a single search go on, with other hyperparameters if the configuration has
        others now; of a larger one those that are not complete, as they are.

        Raises:
            ExperimentInWrongState: It has not ended, or all is complete.
            BadExperiment: The configuration must not be changed so, or is beyond a policy's limits.
        """
        async with self._going_on:  # of two who want it at once, one comes too late
            await self._go_on(await self._experiments.load_record(record.id), override_text)

    async def _go_on(self, record: ExperimentRecord, override_text: str) -> None:
        if not record.state.is_final or record.unmanaged:
            raise ExperimentInWrongState(f"experiment {record.id} has not ended")
        if record.state in (RunState.DELETING, RunState.DELETE_FAILED):
            raise ExperimentInWrongState(f"experiment {record.id} is being deleted")
        rules = await self._policies.load_rules(record.workspace_id, Workload.EXPERIMENT)
        # The limits are for what is asked for now: what was made before them goes on as it is.
        govern = rules.govern_experiment if override_text.strip() else rules.fix_experiment
        try:
            config = await asyncio.to_thread(override, record.config, override_text, govern=govern)
        except BadExperimentConfig as error:
            raise BadExperiment(str(error)) from error
        trials = await self._experiments.records.load_trials(record.id)
        is_single = config.searcher.name == "single"
        chosen = [one for one in trials if is_single or one.state is not RunState.COMPLETED]
        if not chosen:
            raise ExperimentInWrongState(
                f"all trials of experiment {record.id} are complete: there is nothing to go on with"
            )
        plain = config.to_plain(reveal=True)
        if is_single and plain["hyperparameters"] != record.config["hyperparameters"]:
            (first,) = Searcher(config.searcher, config.hyperparameters, record.seed).begin()
            assert isinstance(first, Create)
            for trial in chosen:
                trial.hparams = first.hparams
        record.config, record.is_continued = plain, True
        await self._experiments.go_on(record, chosen)

    # patched

    async def patch(self, record: ExperimentRecord, wish: PatchExperiment) -> None:
        """Change what a request has.

        Raises:
            BadExperiment: A value cannot be.
            ExperimentInWrongState: The experiment has ended, and its place cannot be changed.
        """
        if wish.HasField("resources"):
            resources = wish.resources
            if resources.HasField("priority"):
                await self.set_priority(record, resources.priority)
            if resources.HasField("weight"):
                await self.set_weight(record, resources.weight)
            if resources.HasField("max_slots"):
                await self.set_max_slots(record, resources.max_slots)
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

    async def set_priority(self, record: ExperimentRecord, priority: int) -> None:
        """Serve an experiment's trials before or after others of their pool; raises as `patch`."""
        live = self._get_live(record)
        await self._require_allowed(record, priority=priority)
        for task in self._list_tasks(record):
            await self._places.set_priority(task, priority)

        def change(record: ExperimentRecord) -> None:
            record.priority = record.config["resources"]["priority"] = priority

        await live.update(change)

    async def set_weight(self, record: ExperimentRecord, weight: float) -> None:
        """Give an experiment a larger or smaller share of its pool; raises as `patch`."""
        live = self._get_live(record)
        for task in self._list_tasks(record):
            await self._places.set_weight(task, weight)

        def change(record: ExperimentRecord) -> None:
            record.config["resources"]["weight"] = weight

        await live.update(change)

    async def set_max_slots(self, record: ExperimentRecord, max_slots: int) -> None:
        """Limit the slots that an experiment's trials hold together; raises as `patch`."""
        live = self._get_live(record)
        if max_slots < 0:
            raise BadExperiment(f"max_slots must not be negative, and is {max_slots}")
        await self._require_allowed(record, slots=max_slots)

        def change(record: ExperimentRecord) -> None:
            record.config["resources"]["max_slots"] = max_slots

        await live.update(change)
        self._tasks.renew_limits(record.job_id)

    async def _require_allowed(
        self, record: ExperimentRecord, *, slots: int = 0, priority: int | None = None
    ) -> None:
        rules = await self._policies.load_rules(record.workspace_id, Workload.EXPERIMENT)
        problem = rules.find_excess(slots=slots, priority=priority)
        if problem is not None:
            raise BadExperiment(problem)

    async def move(self, record: ExperimentRecord, pool: str) -> None:
        """Have an experiment's trials run in another pool, of which none may run yet.

        Raises:
            BadTask: There is no such pool, it is not for the workspace, or it could never hold them.
            TaskInWrongState: One of them does not wait any more.
            ExperimentInWrongState: It has ended.
        """
        live = self._get_live(record)
        slots = record.slots_per_trial
        choice = await self._places.find_pool(record.workspace_id, pool, slots=slots)
        for task in self._list_tasks(record):
            await self._places.move(task, choice.pool)

        def change(record: ExperimentRecord) -> None:
            record.pool = record.config["resources"]["resource_pool"] = choice.pool
            record.manager = choice.manager.name

        await live.update(change)

    def _get_live(self, record: ExperimentRecord) -> LiveExperiment:
        live = self._experiments.find(record.id)
        if live is None:
            raise ExperimentInWrongState(
                f"experiment {record.id} has ended: it takes no resources any more"
            )
        return live

    def _list_tasks(self, record: ExperimentRecord) -> list[TaskRecord]:
        tasks = self._tasks.list_open()
        return [one for one in tasks if one.job_id == record.job_id and not one.state.is_final]

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

        async with self._going_on:  # it may have been continued, or be on its way out, by now
            live = self._experiments.find(record.id)
            if live is not None:
                await live.update(change)
            else:
                record = await self._experiments.load_record(record.id)
                change(record)
                await self._experiments.records.save(record)
        await self._storage.collect(record.id)


def _read_labels(message: ListValue) -> list[str]:
    labels = list_to_plain(message)
    if not all(isinstance(label, str) and label for label in labels):
        raise BadExperiment("labels: each must be a text that is not empty")
    return list(dict.fromkeys(labels))
