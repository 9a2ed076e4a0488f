"""Trials that run elsewhere and only report here.

Facts: task-environment.md 7.4.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import select, update

from shipway_master.allocations.ids import TaskId
from shipway_master.errors import MasterError
from shipway_master.experiments.errors import ExperimentInWrongState
from shipway_master.experiments.records import ExperimentRecord, ExperimentRecords, TrialRecord
from shipway_master.experiments.states import RunState
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow

log = logging.getLogger(__name__)

_SILENCE_LIMIT = timedelta(minutes=10)
"""Ten of the signs of life that the stock package sends each minute."""
_LOOK_EVERY = timedelta(minutes=1)
_BY_WEIGHT = (
    RunState.ACTIVE,
    RunState.PAUSED,
    RunState.ERROR,
    RunState.CANCELED,
    RunState.COMPLETED,
)
"""What a trial can say of itself; of those that its trials are in, an experiment has the first."""
_BEING_DELETED = (RunState.DELETING, RunState.DELETE_FAILED)


class UnmanagedTrials:
    """Keeps the trials that run elsewhere; they have no tasks here, only the ids of tasks."""

    def __init__(
        self,
        database: Database,
        records: ExperimentRecords,
        *,
        announce_end: Callable[[str], None],
    ) -> None:
        """Keep trials.

        Args:
            announce_end: Tells those who follow the log of a task that it has ended.
        """
        self._database, self._records = database, records
        self._announce_end = announce_end

    async def create(
        self,
        experiment: ExperimentRecord,
        hparams: Mapping[str, Any],
        *,
        external_id: str | None = None,
    ) -> TrialRecord:
        """Make a trial.

        Raises:
            ExperimentInWrongState: The experiment's trials are made here.
        """
        _require_unmanaged(experiment)
        request_id = str(uuid4())
        record = TrialRecord(
            experiment_id=experiment.id,
            request_id=request_id,
            external_id=external_id,
            hparams=hparams,
            seed=secrets.randbelow(2**31),
            started_at=datetime.now(UTC),
            state=RunState.ACTIVE,
            task_ids=[TaskId(f"{experiment.id}.{request_id}")],
            last_activity_at=datetime.now(UTC),
        )
        await self._records.save(experiment, new_trials=[record])
        return record

    async def find_by_external_id(
        self, experiment: ExperimentRecord, external_id: str
    ) -> TrialRecord | None:
        """Find the trial that its user knows by a name of his own."""
        statement = select(TrialRow.id).where(
            TrialRow.experiment_id == experiment.id, TrialRow.external_id == external_id
        )
        async with self._database.reading() as session:
            trial_id = await session.scalar(statement)
        return None if trial_id is None else await self._records.load_trial(trial_id)

    async def start(self, experiment: ExperimentRecord, trial: TrialRecord) -> int:
        """Begin one more run of a trial; returns its number.

        Raises:
            ExperimentInWrongState: The trial is run here.
        """
        _require_unmanaged(experiment)
        trial.run += 1
        trial.state, trial.ended_at = RunState.ACTIVE, None
        trial.last_activity_at = datetime.now(UTC)
        await self._records.save_trial(trial)
        await self._follow(experiment)
        return trial.run

    async def report(
        self, experiment: ExperimentRecord, trial: TrialRecord, state: RunState | None
    ) -> None:
        """Hear that a trial lives, and what has become of it.

        Raises:
            ExperimentInWrongState: The trial is run here, or cannot come into that state so.
        """
        _require_unmanaged(experiment)
        now = trial.last_activity_at = datetime.now(UTC)
        if state is None:
            # Nothing but that: the trial may be reporting its end at this very moment.
            statement = update(TrialRow).where(TrialRow.id == trial.id)
            async with self._database.writing() as session:
                await session.execute(statement.values(last_activity_at=now))
            return
        if state not in _BY_WEIGHT:
            raise ExperimentInWrongState(f"a trial cannot report the state {state}")
        trial.state = state
        trial.ended_at = now if state.is_final else None
        await self._records.save_trial(trial)
        if state.is_final:
            self._announce_end(trial.task_id)
        await self._follow(experiment)

    async def watch(self) -> None:
        """Give up, again and again, the trials that have not been heard of for long.

        Only time counts in which the master could have heard them: not what was before its start,
        and not what the clock made up when it was set or the machine slept.
        """
        since = looked_at = datetime.now(UTC)
        while True:
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
            now = datetime.now(UTC)
            if abs(now - looked_at) > 2 * _LOOK_EVERY:
                since = now
            looked_at = now
            if now - since < _SILENCE_LIMIT:
                continue
            try:
                await self.give_up_silent(before=now - _SILENCE_LIMIT)
            except MasterError as error:
                log.warning("cannot look for silent trials", extra={"error": str(error)})

    async def give_up_silent(self, *, before: datetime) -> None:
        """End the trials as failed that were last heard of before a moment."""
        is_silent = TrialRow.state == RunState.ACTIVE.value, TrialRow.last_activity_at < before
        statement = (
            select(TrialRow.id, TrialRow.experiment_id)
            .join(ExperimentRow, ExperimentRow.id == TrialRow.experiment_id)
            .where(ExperimentRow.unmanaged, *is_silent)
        )
        async with self._database.reading() as session:
            found = (await session.execute(statement)).all()
        for trial_id, experiment_id in found:
            trial = await self._records.load_trial(trial_id)
            experiment = await self._records.load(experiment_id)
            if trial is None or experiment is None:
                continue
            end = update(TrialRow).where(TrialRow.id == trial_id, *is_silent).returning(TrialRow.id)
            values = {"state": RunState.ERROR.value, "ended_at": datetime.now(UTC)}
            async with self._database.writing() as session:
                is_ended = (await session.execute(end.values(values))).first() is not None
            if is_ended:  # or it has just been heard of
                log.warning("a trial that runs elsewhere is silent", extra={"trial_id": trial_id})
                self._announce_end(trial.task_id)
                await self._follow(experiment)

    async def _follow(self, experiment: ExperimentRecord) -> None:
        """Have an experiment be in the state that its trials are in."""
        of_trials = select(TrialRow.state).where(TrialRow.experiment_id == experiment.id).distinct()
        is_kept = ExperimentRow.state.not_in([state.value for state in _BEING_DELETED])
        statement = update(ExperimentRow).where(ExperimentRow.id == experiment.id, is_kept)
        async with self._database.writing() as session:
            states = {RunState(one) for one in await session.scalars(of_trials)}
            state = next((one for one in _BY_WEIGHT if one in states), None)
            if state is not None:
                ended_at = datetime.now(UTC) if state.is_final else None
                await session.execute(statement.values(state=state.value, ended_at=ended_at))


def require_managed(experiment: ExperimentRecord) -> None:
    """Refuse to start or stop what runs elsewhere; what has ended can be asked of anything.

    Raises:
        ExperimentInWrongState: It lives, and its trials are not here.
    """
    if experiment.unmanaged and not experiment.state.is_final:
        raise ExperimentInWrongState(
            f"experiment {experiment.id} runs elsewhere: only the program that reports for it can "
            f"stop it, or it ends when that is silent for {_SILENCE_LIMIT.seconds // 60} minutes"
        )


def _require_unmanaged(experiment: ExperimentRecord) -> None:
    if not experiment.unmanaged:
        raise ExperimentInWrongState(
            f"experiment {experiment.id} is run by this master, which makes and starts its trials"
        )
