"""One trial whose experiment lives: what is wanted of it, and its task brought in line with that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, assert_never

from shipway_master.experiments.records import ExperimentRecords, TrialRecord
from shipway_master.experiments.states import RunState, get_end, stop
from shipway_master.tasks.errors import TaskInWrongState, TaskNotFound
from shipway_master.tasks.logpolicy import LogPolicy
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.states import TaskState
from shipway_master.tasks.tasks import Tasks

log = logging.getLogger(__name__)


class LiveTrial:
    """A trial; all but `record` belongs to its experiment, which calls one method at a time.

    The record is changed under the lock of the trial's task only, because the end of a run is
    judged under it. What is wanted is stored first; `sync` then does what follows from it, and
    does the rest of it after a crash.
    """

    def __init__(
        self,
        record: TrialRecord,
        *,
        records: ExperimentRecords,
        tasks: Tasks,
        make_task: Callable[[TrialRecord], TaskRecord],
    ) -> None:
        self.record = record
        self._records = records
        self._tasks = tasks
        self._make_task = make_task

    @property
    def name(self) -> str:
        """What people call it."""
        return f"Trial {self.record.id} (Experiment {self.record.experiment_id})"

    async def activate(self) -> None:
        """Let it run."""
        await self._want(RunState.PAUSED, RunState.ACTIVE)

    async def pause(self) -> None:
        """Have it leave its resources until it is activated."""
        await self._want(RunState.ACTIVE, RunState.PAUSED)

    async def stop(self, wish: RunState, *, reason: str = "") -> None:
        """Have it come to its end; repeating gives the signal again."""
        async with self._tasks.lock(self.record.task_id):
            if self.record.state.is_final:
                return
            await self._note(state=stop(self.record.state, wish))
        await self.sync(reason)

    async def note_early_exit(self, reason: str) -> None:
        """Note that it cannot go on with its hyperparameters: its end, however it ends, completes it."""
        async with self._tasks.lock(self.record.task_id):
            if self.record.early_exit is None and not self.record.state.is_final:
                await self._note(early_exit=reason)

    async def apply_policy(self, policy: LogPolicy, node: str | None) -> None:
        """Do what a log policy says of which a line matched.

        Args:
            node: The agent or node that wrote the line.
        """
        async with self._tasks.lock(self.record.task_id):
            changes: dict[str, Any] = {"log_signal": policy.name or self.record.log_signal}
            match policy.action:
                case "cancel_retries":
                    changes["are_retries_canceled"] = True
                case "exclude_node":
                    if node and node not in self.record.excluded_nodes:
                        changes["excluded_nodes"] = [*self.record.excluded_nodes, node]
                case None:
                    pass
            await self._note(**changes)
        run = self._tasks.find_run(self.record.task_id)
        if run is not None:
            await run.say(_describe(policy, node))

    async def finish(self, task_state: TaskState | None = None) -> None:
        """Note that nothing of it runs any more, whatever state it was in."""
        async with self._tasks.lock(self.record.task_id):
            if self.record.state.is_final:
                return
            is_error = task_state is TaskState.ERROR
            state = RunState.ERROR if is_error else get_end(self.record.state)
            await self._note(state=state, ended_at=datetime.now(UTC))

    async def sync(self, reason: str = "") -> None:
        """Have its task do what is wanted of the trial; repeating changes nothing."""
        if self.record.state.is_final:
            return
        task = await self._find_task()
        if task is not None and task.state.is_final:
            await self.finish(task.state)
            return
        try:
            await self._bring_in_line(task, reason)
        except TaskInWrongState:
            if task is None or not task.state.is_final:
                raise
            # It has ended meanwhile, of which the experiment is about to hear.

    async def _bring_in_line(self, task: TaskRecord | None, reason: str) -> None:
        state = self.record.state
        match state:
            case RunState.ACTIVE:
                if task is None:
                    await self._tasks.start(self._make_task(self.record))
                elif task.state in (TaskState.PAUSED, TaskState.STOPPING_PAUSED):
                    await self._tasks.unpause(task)
            case RunState.PAUSED:
                # Also one that is leaving: a crash may have come before its run was told.
                if task is not None and task.state is not TaskState.PAUSED:
                    await self._tasks.pause(task)
            case RunState.STOPPING_COMPLETED | RunState.STOPPING_CANCELED:
                if task is None:
                    await self.finish()
                else:
                    await self._tasks.stop(task, reason=reason or "it is being stopped")
            case RunState.STOPPING_KILLED | RunState.STOPPING_ERROR:
                if task is None:
                    await self.finish()
                else:
                    await self._tasks.kill(task, reason=reason or "it is being killed")
            case (
                RunState.COMPLETED
                | RunState.CANCELED
                | RunState.ERROR
                | RunState.DELETING
                | RunState.DELETE_FAILED
            ):
                pass
            case _:
                assert_never(state)

    async def _want(self, before: RunState, after: RunState) -> None:
        async with self._tasks.lock(self.record.task_id):
            if self.record.state is before:
                await self._note(state=after)
        await self.sync()  # if it is in that state already, too: an earlier try may have failed

    async def _note(self, **changes: Any) -> None:
        """Store changes of the record, which has them then; under the lock of the task."""
        changed = replace(self.record, **changes)
        await self._records.save_trial(changed)
        self.record = changed

    async def _find_task(self) -> TaskRecord | None:
        try:
            return await self._tasks.get(self.record.task_id)
        except TaskNotFound:
            return None


def _describe(policy: LogPolicy, node: str | None) -> str:
    what = f"log policy {policy.name!r}" if policy.name else f"log policy {policy.pattern!r}"
    match policy.action:
        case "cancel_retries":
            return f"{what} matched: the trial is not started again if it fails"
        case "exclude_node":
            return f"{what} matched: the trial is not started on {node} again"
        case None:
            return f"{what} matched"
