"""All experiments of this master, and the care for the tasks of their trials."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from shipway_master.allocations.exits import Outcome
from shipway_master.allocations.ids import AllocationId, TaskId
from shipway_master.background import Background
from shipway_master.experiments.config import BadExperimentConfig
from shipway_master.experiments.creation import Plan, has_startup_hook, plan_searcher
from shipway_master.experiments.errors import (
    BadExperiment,
    ExperimentInWrongState,
    ExperimentNotFound,
)
from shipway_master.experiments.experiment import LiveExperiment
from shipway_master.experiments.logwatch import LogWatch
from shipway_master.experiments.records import (
    ExperimentRecord,
    ExperimentRecords,
    TrialRecord,
)
from shipway_master.experiments.states import RunState, get_task_state
from shipway_master.experiments.trial import LiveTrial
from shipway_master.experiments.trialequipment import TrialStart, equip_trial
from shipway_master.experiments.trialports import choose_ports
from shipway_master.experiments.trialtask import make_task
from shipway_master.experiments.verdict import Standing, judge
from shipway_master.logbook import LogBook, LogLine
from shipway_master.searchers.errors import SearchError
from shipway_master.tasks.caretaker import RunLimits
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.logpolicy import LogPolicy
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.service import Equipment
from shipway_master.tasks.ssh import KeyPair
from shipway_master.tasks.states import Next, TaskState, TaskType
from shipway_master.tasks.tasks import Tasks

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S = 10.0
"""Time for a trial to end after it reported that it cannot go on. Fact: task-environment.md 9.10."""

FindLatest = Callable[[int], Awaitable[tuple[str, int] | None]]
"""From a trial to its newest whole checkpoint, and the steps that this holds."""
FindSource = Callable[[Mapping[str, Any]], Awaitable[str | None]]
"""From the configuration of an experiment to the checkpoint that its trials begin with."""
OnEnd = Callable[[ExperimentRecord], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Kit:
    """What all runs of an experiment's trials begin with."""

    keys: KeyPair
    has_startup_hook: bool


class Experiments:
    """The experiments that live; entered, it owns what is done when a trial ends.

    It is the caretaker of the tasks of trials (see `tasks.caretaker`). At the start of the master
    `load` comes first, for the tasks that are restored next ask for their trials; then `resume`.
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
        self._find_latest, self._find_source = find_latest, find_source
        self._on_end = on_end
        self._live: dict[int, LiveExperiment] = {}
        self._by_task: dict[TaskId, tuple[LiveExperiment, LiveTrial]] = {}
        self._kits: dict[int, _Kit] = {}
        self._log_watch = LogWatch(self._policy_matched)
        logbook.observe(self._log_watch.see)
        self._background = Background()
        self._stack = AsyncExitStack()
        tasks.entrust(TaskType.TRIAL, self)

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

    def list_live(self) -> list[LiveExperiment]:
        """The experiments that live, oldest first."""
        return list(self._live.values())

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
                self._watch_log(trial.task_id)

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
            if task.task_type is TaskType.TRIAL and task.task_id not in self._by_task:
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
        for task_id in record.task_ids:
            self._by_task[task_id] = experiment, trial
        return trial

    async def _experiment_ended(self, experiment: LiveExperiment) -> None:
        self._live.pop(experiment.record.id, None)
        self._kits.pop(experiment.record.id, None)
        for trial in experiment.trials.values():
            for task_id in trial.record.task_ids:
                self._by_task.pop(task_id, None)
                self._log_watch.forget(task_id)
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

    # the care for the tasks of trials

    def get_limits(self, record: TaskRecord) -> RunLimits:
        """What the next run of a trial must respect."""
        found = self._by_task.get(record.task_id)
        if found is None:  # its experiment has ended, and so will it
            return RunLimits()
        experiment, trial = found
        resources: Mapping[str, Any] = experiment.record.config.get("resources") or {}
        return RunLimits(
            max_slots=resources.get("max_slots"),
            excluded_nodes=tuple(trial.record.excluded_nodes),
        )

    async def begin_run(self, record: TaskRecord, run: int) -> None:
        """Number a run of a trial, and give it its ports."""
        found = self._by_task.get(record.task_id)
        if found is None:  # its experiment has ended, and so will it
            return
        _, trial = found
        others = (one.record for _, one in self._by_task.values() if one is not trial)
        trial.record.ports = choose_ports({port for one in others for port in one.ports})
        trial.record.run = run
        await self.records.save_trial(trial.record)
        self._watch_log(record.task_id)

    def _watch_log(self, task_id: TaskId) -> None:
        experiment, _ = self._by_task[task_id]
        policies = experiment.record.config.get("log_policies") or ()
        self._log_watch.watch(task_id, [LogPolicy.model_validate(one) for one in policies])

    def _policy_matched(self, task_id: str, policy: LogPolicy, line: LogLine) -> None:
        found = self._by_task.get(TaskId(task_id))
        if found is not None:
            self._background.start(
                found[1].apply_policy(policy, line.agent_id), name="log policy of a trial"
            )

    async def equip(
        self, record: TaskRecord, allocation_id: AllocationId, user: AgentUser
    ) -> Equipment:
        """Say how a run of a trial is started."""
        experiment, trial = self._by_task[record.task_id]
        kit = await self._load_kit(experiment.record.id)
        latest = await self._find_latest(trial.record.id)
        start = TrialStart(
            trial=trial.record,
            config=experiment.record.config,
            keys=kit.keys,
            has_startup_hook=kit.has_startup_hook,
            checkpoint=trial.record.source_checkpoint if latest is None else latest[0],
            steps_completed=0 if latest is None else latest[1],
        )
        return equip_trial(start, user)

    async def load_context(self, record: TaskRecord) -> bytes:
        """Load the model definition of a trial's experiment."""
        experiment_id = int(record.task_id.partition(".")[0])
        return (await self.records.load_files(experiment_id)).tgz

    async def _load_kit(self, experiment_id: int) -> _Kit:
        if experiment_id not in self._kits:
            files = await self.records.load_files(experiment_id)
            self._kits[experiment_id] = _Kit(
                keys=KeyPair(private=files.private_key, public=files.public_key),
                has_startup_hook=await asyncio.to_thread(has_startup_hook, files.tgz),
            )
        return self._kits[experiment_id]

    async def judge(
        self, record: TaskRecord, run: int, outcome: Outcome, *, lost_runs: int
    ) -> Next:
        """Say what the end of a run makes of a trial."""
        found = self._by_task.get(record.task_id)
        if found is None:
            return await self._recall(record)
        experiment, trial = found
        of_trial, text, note = trial.record, outcome.reason, ""
        if of_trial.judged_run < run:
            verdict = judge(
                Standing(
                    state=of_trial.state,
                    restarts=of_trial.restarts,
                    max_restarts=experiment.record.config.get("max_restarts", 0),
                    has_left_early=of_trial.early_exit is not None,
                    are_retries_canceled=of_trial.are_retries_canceled,
                    lost_runs=lost_runs,
                ),
                outcome,
            )
            of_trial = replace(
                of_trial,
                state=verdict.state,
                restarts=verdict.restarts,
                judged_run=run,
                ports=[],
                ended_at=datetime.now(UTC) if verdict.state.is_final else None,
            )
            await self.records.save_trial(of_trial)
            trial.record, text, note = of_trial, verdict.text, verdict.note
        if of_trial.state.is_final:
            state = get_task_state(of_trial.state)
            return Next(state=state, exit_status=text, note=note)
        if of_trial.state is RunState.PAUSED:
            return Next(state=TaskState.PAUSED, note=note)
        if of_trial.state.is_stopping:
            return Next(state=TaskState.CANCELED, exit_status=text, note=note)
        return Next(state=TaskState.ACTIVE, runs_again=True, note=note)

    async def _recall(self, record: TaskRecord) -> Next:
        """Say what became of a trial whose experiment has ended: a crash came before its task did."""
        trial_id = await self.records.find_trial_of_task(record.task_id)
        trial = None if trial_id is None else await self.records.load_trial(trial_id)
        if trial is None or not trial.state.is_final:
            return Next(state=TaskState.ERROR, exit_status="its experiment has ended without it")
        return Next(state=get_task_state(trial.state), exit_status="its experiment has ended")

    def ended(self, record: TaskRecord) -> None:
        """Have the experiment hear that a trial has ended."""
        found = self._by_task.get(record.task_id)
        if found is not None:
            experiment, trial = found
            self._background.start(
                experiment.trial_ended(trial.record.id), name=f"end of task {record.task_id}"
            )
