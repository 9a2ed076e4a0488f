"""The care for the tasks of trials: how each run begins, and what its end makes of the trial."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from shipway_master.allocations.exits import Outcome
from shipway_master.allocations.ids import AllocationId, TaskId
from shipway_master.background import Background
from shipway_master.experiments.creation import has_startup_hook
from shipway_master.experiments.experiment import LiveExperiment
from shipway_master.experiments.logwatch import LogWatch
from shipway_master.experiments.records import ExperimentRecords
from shipway_master.experiments.states import RunState, get_task_state
from shipway_master.experiments.trial import LiveTrial
from shipway_master.experiments.trialequipment import TrialStart, equip_trial
from shipway_master.experiments.trialports import choose_ports
from shipway_master.experiments.verdict import Standing, judge
from shipway_master.logbook import LogBook, LogLine
from shipway_master.tasks.caretaker import RunLimits
from shipway_master.tasks.launch import AgentUser
from shipway_master.tasks.logpolicy import LogPolicy
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.service import Equipment
from shipway_master.tasks.ssh import KeyPair
from shipway_master.tasks.states import Next, TaskState

FindLatest = Callable[[int], Awaitable[tuple[str, int] | None]]
"""From a trial to its newest whole checkpoint, and the steps that this holds."""


@dataclass(frozen=True, slots=True)
class _Kit:
    """What all runs of an experiment's trials begin with."""

    keys: KeyPair
    has_startup_hook: bool


class TrialCare:
    """The caretaker of the tasks of trials (see `tasks.caretaker`), and who looks into their logs.

    Args:
        background: Carries what follows from ends of tasks and from lines of their logs.
    """

    def __init__(
        self,
        records: ExperimentRecords,
        *,
        find_latest: FindLatest,
        logbook: LogBook,
        background: Background,
    ) -> None:
        self._records = records
        self._find_latest = find_latest
        self._background = background
        self._by_task: dict[TaskId, tuple[LiveExperiment, LiveTrial]] = {}
        self._kits: dict[int, _Kit] = {}
        self._log_watch = LogWatch(self._policy_matched)
        logbook.observe(self._log_watch.see)

    def take(self, experiment: LiveExperiment, trial: LiveTrial) -> None:
        """Care for all tasks of a trial from now on."""
        for task_id in trial.record.task_ids:
            self._by_task[task_id] = experiment, trial

    def let_go(self, experiment: LiveExperiment) -> None:
        """Forget an experiment that has ended."""
        self._kits.pop(experiment.record.id, None)
        for trial in experiment.trials.values():
            for task_id in trial.record.task_ids:
                self._by_task.pop(task_id, None)
                self._log_watch.forget(task_id)

    def knows(self, task_id: TaskId) -> bool:
        """Whether a task is one of a trial that is cared for."""
        return task_id in self._by_task

    def watch_log(self, task_id: TaskId) -> None:
        """Heed the log policies of a trial in the log of its task, anew for each run."""
        experiment, _ = self._by_task[task_id]
        policies = experiment.record.config.get("log_policies") or ()
        self._log_watch.watch(task_id, [LogPolicy.model_validate(one) for one in policies])

    def _policy_matched(self, task_id: str, policy: LogPolicy, line: LogLine) -> None:
        found = self._by_task.get(TaskId(task_id))
        if found is not None:
            self._background.start(
                found[1].apply_policy(policy, line.agent_id), name="log policy of a trial"
            )

    # as `tasks.caretaker.Caretaker` has it

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
        await self._records.save_trial(trial.record)
        self.watch_log(record.task_id)

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
        return (await self._records.load_files(experiment_id)).tgz

    async def _load_kit(self, experiment_id: int) -> _Kit:
        if experiment_id not in self._kits:
            files = await self._records.load_files(experiment_id)
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
            await self._records.save_trial(of_trial)
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
        trial_id = await self._records.find_trial_of_task(record.task_id)
        trial = None if trial_id is None else await self._records.load_trial(trial_id)
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
