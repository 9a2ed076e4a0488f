"""Trials that are deleted alone, while their experiments stay."""

from __future__ import annotations

import logging
from typing import Protocol

from sqlalchemy import delete

from shipway_master.background import Background
from shipway_master.experiments.errors import ExperimentInWrongState
from shipway_master.experiments.experiments import Experiments
from shipway_master.experiments.records import ExperimentRecord
from shipway_master.experiments.remains import NOT_DELETED, remove_logs
from shipway_master.logbook import LogBook
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.trialmetrics.besttrial import renew_best_trial

log = logging.getLogger(__name__)


class TrialStorage(Protocol):
    """Who removes the checkpoints of trials."""

    async def require_trial_removable(self, trial_id: int) -> None:
        """Protect checkpoints that have a name in the model registry."""
        ...

    async def empty_trial(self, experiment_id: int, trial_id: int) -> None:
        """Remove all checkpoints of a trial, and wait until they are gone."""
        ...


class TrialDeletions:
    """Deletes trials; who may do so is the callers' business."""

    def __init__(
        self,
        database: Database,
        experiments: Experiments,
        *,
        storage: TrialStorage,
        logbook: LogBook,
        background: Background,
    ) -> None:
        self._database, self._experiments = database, experiments
        self._storage, self._logbook = storage, logbook
        self._background = background
        self._going_on: set[int] = set()

    async def delete(self, experiment: ExperimentRecord, trial_id: int) -> None:
        """Begin to delete a trial with its checkpoints and its log; goes on in the background.

        What fails there, or is cut off by a restart of the master, leaves the trial as it is.

        Raises:
            ExperimentInWrongState: The experiment has not ended, and may still look at its trials.
            FailedPrecondition: A checkpoint of the trial is a version of a registered model.
        """
        if not experiment.state.is_final or self._experiments.find(experiment.id) is not None:
            raise ExperimentInWrongState(
                f"experiment {experiment.id} has not ended: its runs can be deleted when it has"
            )
        await self._storage.require_trial_removable(trial_id)
        if trial_id not in self._going_on:
            self._going_on.add(trial_id)
            work = self._delete(experiment.id, trial_id)
            self._background.start(work, name=f"deletion of trial {trial_id}")

    async def _delete(self, experiment_id: int, trial_id: int) -> None:
        try:
            await self._storage.empty_trial(experiment_id, trial_id)
            if self._experiments.find(experiment_id) is not None:
                raise ExperimentInWrongState(f"experiment {experiment_id} goes on meanwhile")
            await self._delete_rows(experiment_id, trial_id)
        except NOT_DELETED as error:
            log.warning(
                "a trial cannot be deleted", extra={"trial_id": trial_id, "error": str(error)}
            )
        else:
            log.info("trial deleted", extra={"trial_id": trial_id})
        finally:
            self._going_on.discard(trial_id)

    async def _delete_rows(self, experiment_id: int, trial_id: int) -> None:
        tasks = await remove_logs(self._database, self._logbook, TrialRow.id == trial_id)
        async with self._database.writing() as session:
            await session.execute(tasks)
            await session.execute(delete(TrialRow).where(TrialRow.id == trial_id))
            await renew_best_trial(session, experiment_id)
