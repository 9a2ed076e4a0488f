"""The removal of checkpoints: by policy, by wish, and with their experiment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.background import Background, finish_first
from shipway_master.checkpoints.choice import (
    choose,
    load_with_files,
    load_with_files_of_trial,
    read_own_policy,
)
from shipway_master.checkpoints.records import load_found, require_unregistered
from shipway_master.checkpoints.removals import CollectionFailed as CollectionFailed
from shipway_master.checkpoints.removals import CollectionLasts as CollectionLasts
from shipway_master.checkpoints.removals import Removal, Removals, require_done
from shipway_master.checkpoints.state import CheckpointState
from shipway_master.checkpoints.storages import load_storages, storage_of_experiment
from shipway_master.errors import MasterError, NotFound
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.tasks.errors import TaskRefused
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces

log = logging.getLogger(__name__)

EVERYTHING: Final = ("**/*",)
"""The pattern by which a checkpoint goes as a whole."""
_BEING_DELETED: Final = ("DELETING", "DELETE_FAILED")
_OF_LATE: Final = timedelta(days=1)


class Collector:
    """Starts the tasks that remove checkpoints, and knows those that live.

    It is entered before the tasks of an earlier process are taken up.
    """

    def __init__(self, database: Database, tasks: Tasks, workspaces: Workspaces) -> None:
        self._database = database
        self._removals = Removals(database, tasks, workspaces, on_end=self._go_on)
        self._background = Background()
        self._beginning = asyncio.Lock()
        self._choosing: set[int] = set()
        self._again: set[int] = set()

    async def __aenter__(self) -> Self:
        """Learn of the tasks that an earlier process started."""
        await self._background.__aenter__()
        await self._removals.__aenter__()
        self._again |= self._removals.list_experiments()  # more may have come up meanwhile
        return self

    async def __aexit__(self, *error: object) -> None:
        """Start nothing more; what runs goes on."""
        await self._removals.__aexit__(*error)
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
        if self._is_busy(experiment_id):
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

    async def remove(self, uuids: Collection[str], globs: Collection[str]) -> None:
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
        await self._removals.start(with_files, storages, tuple(globs))

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
        await self._removals.wait(experiment_id)
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, experiment_id)
            if experiment is None:
                return
            found = await load_with_files(session, experiment_id)
            storages = await load_storages(session, [one.row for one in found])
            has_run = await _has_run(session, experiment_id)
        started = await self._removals.start(found, storages, EVERYTHING)
        if has_run and storage_of_experiment(experiment):
            started.append(await self._removals.start_with_tensorboards(experiment))
        await require_done(started)

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
        await self._removals.wait(experiment_id)
        async with self._database.reading() as session:
            found = await load_with_files_of_trial(session, trial_id)
            storages = await load_storages(session, [one.row for one in found])
        await require_done(await self._removals.start(found, storages, EVERYTHING))

    async def remove_tensorboards(self, experiment_id: int, *, limit_s: float) -> None:
        """Remove the TensorBoard files of an experiment, and wait until they are gone.

        Where a task removes them already, it is waited for. It goes on when this is cancelled.

        Raises:
            NotFound: There is no such experiment.
            FailedPrecondition: It does not say where they are.
            CollectionFailed: Some of them are still there.
            CollectionLasts: They are not gone in *limit_s* seconds.
            TaskRefused: The task cannot be started.
        """
        async with self._database.reading() as session:
            experiment = await session.get(ExperimentRow, experiment_id)
        if experiment is None:
            raise NotFound("experiment", experiment_id)
        removal = await finish_first(self._begin_with_tensorboards(experiment))
        await require_done([removal], limit_s=limit_s)

    # inside

    async def _begin_with_tensorboards(self, experiment: ExperimentRow) -> Removal:
        async with self._beginning:
            removal = self._removals.find_with_tensorboards(experiment.id)
            return removal or await self._removals.start_with_tensorboards(experiment)

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
        await self._removals.start(removed, storages, EVERYTHING)

    def _is_busy(self, experiment_id: int) -> bool:
        return experiment_id in self._choosing or experiment_id in self._removals.list_experiments()

    def _go_on(self, experiment_id: int) -> None:
        """Look again, if something came up while nothing could be done about it."""
        if experiment_id in self._again and not self._is_busy(experiment_id):
            self._again.discard(experiment_id)
            self._background.start(
                self.collect(experiment_id), name=f"checkpoints of experiment {experiment_id}"
            )


async def _has_run(session: AsyncSession, experiment_id: int) -> bool:
    statement = select(func.max(TrialRow.run)).where(TrialRow.experiment_id == experiment_id)
    return bool(await session.scalar(statement))
