"""All experiments of this master that live."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self

from shipway_master.allocations.ids import TaskId
from shipway_master.background import Background
from shipway_master.experiments.config import BadExperimentConfig
from shipway_master.experiments.creation import Plan, plan_searcher
from shipway_master.experiments.errors import (
    BadExperiment,
    ExperimentInWrongState,
    ExperimentNotFound,
)
from shipway_master.experiments.experiment import LiveExperiment
from shipway_master.experiments.records import (
    ExperimentRecord,
    ExperimentRecords,
    TrialRecord,
)
from shipway_master.experiments.states import RunState
from shipway_master.experiments.trial import LiveTrial
from shipway_master.experiments.trialcare import FindLatest, TrialCare
from shipway_master.experiments.trialtask import make_task
from shipway_master.logbook import LogBook
from shipway_master.searchers.errors import SearchError
from shipway_master.tasks.states import TaskType
from shipway_master.tasks.tasks import Tasks

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S = 10.0
"""Time for a trial to end after it reported that it cannot go on. Fact: task-environment.md 9.10."""

FindSource = Callable[[Mapping[str, Any]], Awaitable[str | None]]
"""From the configuration of an experiment to the checkpoint that its trials begin with."""
OnEnd = Callable[[ExperimentRecord], Awaitable[None]]


class Experiments:
    """The experiments that live; entered, it owns what is done when a trial ends.

    At the start of the master `load` comes first, for the tasks that are restored next ask for their
    trials (see `trialcare`); then `resume`.
    """

    def __init__(
        self,
        *,
        records: ExperimentRecords,
        tasks: Tasks,
        find_latest: FindLatest,
        find_source: FindSource,
        on_end: OnEnd,
        logbook: LogBook,
    ) -> None:
        self.records = records
        self._tasks = tasks
        self._find_source = find_source
        self._on_end = on_end
        self._live: dict[int, LiveExperiment] = {}
        self._background = Background()
        self._stack = AsyncExitStack()
        self._care = TrialCare(
            records, find_latest=find_latest, logbook=logbook, background=self._background
        )
        tasks.entrust(TaskType.TRIAL, self._care)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._background)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # looking

    def find(self, experiment_id: int) -> LiveExperiment | None:
        """The experiment of that id, if it lives."""
        return self._live.get(experiment_id)

    def get(self, experiment_id: int) -> LiveExperiment:
        """The live experiment of that id.

        Raises:
            ExperimentInWrongState: It has ended, or there never was one, or it is unmanaged.
        """
        experiment = self._live.get(experiment_id)
        if experiment is None:
            raise ExperimentInWrongState(f"experiment {experiment_id} has ended already")
        return experiment

    async def load_record(self, experiment_id: int) -> ExperimentRecord:
        """The experiment of that id, live or not.

        Raises:
            ExperimentNotFound: There is none.
        """
        live = self._live.get(experiment_id)
        record = live.record if live else await self.records.load(experiment_id)
        if record is None:
            raise ExperimentNotFound(experiment_id)
        return record

    def find_by_job(self, job_id: str) -> LiveExperiment | None:
        """The live experiment of that job."""
        return next((one for one in self._live.values() if one.record.job_id == job_id), None)

    def find_trial(self, trial_id: int) -> tuple[LiveExperiment, LiveTrial] | None:
        """The trial of that id and its experiment, if this lives."""
        for experiment in self._live.values():
            trial = experiment.trials.get(trial_id)
            if trial is not None:
                return experiment, trial
        return None

    # their beginning

    async def create(self, plan: Plan, *, is_active: bool) -> ExperimentRecord:
        """Store a new experiment and start its first trials, unless it waits or runs elsewhere."""
        record = plan.record
        record.state = RunState.ACTIVE if is_active else RunState.PAUSED
        await self.records.add(record, plan.files)
        if record.unmanaged:
            return record
        experiment = self._make_live(record, source_checkpoint=plan.source_checkpoint)
        log.info("experiment created", extra={"experiment_id": record.id, "pool": record.pool})
        await experiment.begin()
        return record

    async def load(self) -> None:
        """Load the experiments that lived when the master stopped."""
        for record in await self.records.load_open():
            trials = await self.records.load_trials(record.id)
            try:
                source = await self._find_source_again(record, trials)
                experiment = self._make_live(record, source_checkpoint=source)
            except (BadExperiment, BadExperimentConfig, SearchError) as error:
                # None of the others is to suffer from it.
                log.error("%s", error, extra={"experiment_id": record.id})
                await self._give_up(record, trials)
                continue
            experiment.adopt(trials)
            for trial in trials:
                self._care.watch_log(trial.task_id)

    async def _give_up(self, record: ExperimentRecord, trials: Sequence[TrialRecord]) -> None:
        """End an experiment that cannot go on; what still runs of it is ended by `resume`."""
        failed: Mapping[str, Any] = {"state": RunState.ERROR, "ended_at": datetime.now(UTC)}
        for trial in trials:
            if not trial.state.is_final:
                await self.records.save_trial(replace(trial, **failed))
        await self.records.save(replace(record, **failed))

    async def _find_source_again(
        self, record: ExperimentRecord, trials: Sequence[TrialRecord]
    ) -> str | None:
        if trials:
            return trials[0].source_checkpoint
        return await self._find_source(record.config)

    async def resume(self) -> None:
        """Let them go on, now that the tasks of their trials are there again."""
        for experiment in list(self._live.values()):
            await experiment.resume()
            for trial in experiment.trials.values():
                if trial.record.early_exit is not None and not trial.record.state.is_final:
                    self._end_soon(trial)
        for task in self._tasks.list_open():
            if task.task_type is TaskType.TRIAL and not self._care.knows(task.task_id):
                self._background.start(
                    self._tasks.kill(task, reason="its experiment has ended"),
                    name=f"end of task {task.task_id}",
                )

    async def go_on(self, record: ExperimentRecord, trials: Sequence[TrialRecord]) -> None:
        """Make an experiment that has ended a live one again, some of whose trials go on."""
        record.state, record.ended_at = RunState.ACTIVE, None
        for trial in trials:
            trial.state, trial.ended_at, trial.early_exit = RunState.ACTIVE, None, None
            trial.restarts = 0
            number = len(trial.task_ids)
            trial.task_ids.append(TaskId(f"{trial.task_ids[0]}-{number}"))
        await self.records.reopen(record, trials)
        all_trials = await self.records.load_trials(record.id)
        experiment = self._make_live(record, source_checkpoint=None)
        experiment.adopt(all_trials)  # before anybody else can find it
        await experiment.resume()

    def _make_live(
        self, record: ExperimentRecord, *, source_checkpoint: str | None
    ) -> LiveExperiment:
        experiment = LiveExperiment(
            record,
            searcher=plan_searcher(record),
            records=self.records,
            make_trial=self._make_trial,
            source_checkpoint=source_checkpoint,
            on_end=self._experiment_ended,
        )
        self._live[record.id] = experiment
        return experiment

    def _make_trial(self, experiment: LiveExperiment, record: TrialRecord) -> LiveTrial:
        trial = LiveTrial(
            record,
            records=self.records,
            tasks=self._tasks,
            make_task=lambda trial: make_task(experiment.record, trial),
        )
        self._care.take(experiment, trial)
        return trial

    async def _experiment_ended(self, experiment: LiveExperiment) -> None:
        self._live.pop(experiment.record.id, None)
        self._care.let_go(experiment)
        await self._on_end(experiment.record)

    async def relocate(self, experiment_ids: Collection[int], workspace_id: int) -> None:
        """Hear that experiments, live or not, are in another workspace now, as it is stored."""
        job_ids = await self.records.load_job_ids(experiment_ids)
        for experiment_id in experiment_ids:
            if (live := self._live.get(experiment_id)) is not None:
                live.record.workspace_id = workspace_id
        await self._tasks.relocate(job_ids, workspace_id)

    # what trials report; the experiments of some need not be told any more

    async def validated(self, trial_id: int, steps: int, metrics: Mapping[str, Any]) -> None:
        """Hear of a validation of a trial."""
        found = self.find_trial(trial_id)
        if found is not None:
            await found[0].validated(trial_id, steps, metrics)

    async def progressed(self, experiment_id: int, trial_id: int, fraction: float) -> None:
        """Hear how much of its work a trial has done."""
        experiment = self._live.get(experiment_id)
        if experiment is not None:
            await experiment.progressed(trial_id, fraction)

    async def left_early(self, experiment_id: int, trial_id: int, reason: str) -> None:
        """Hear that a trial cannot go on; it is ended if it does not leave by itself."""
        experiment = self._live.get(experiment_id)
        if experiment is None or trial_id not in experiment.trials:
            return
        trial = experiment.trials[trial_id]
        await trial.note_early_exit(reason)
        await experiment.left_early(trial_id)
        self._end_soon(trial)

    def _end_soon(self, trial: LiveTrial) -> None:
        self._background.start(self._end_after_early_exit(trial), name="end after early exit")

    async def _end_after_early_exit(self, trial: LiveTrial) -> None:
        await asyncio.sleep(_LEAVE_WITHIN_S)
        run = self._tasks.find_run(trial.record.task_id)
        if run is not None and not trial.record.state.is_final:
            await run.kill("it reported that it cannot go on, and did not end by itself")

    async def stop_trial(
        self, experiment_id: int, trial_id: int, wish: RunState, *, reason: str
    ) -> None:
        """Have one trial come to its end; one that has ended stays as it is."""
        experiment = self._live.get(experiment_id)
        if experiment is not None and trial_id in experiment.trials:
            await experiment.stop_trial(trial_id, wish, reason=reason)
