"""One experiment that lives: what happens to its trials goes to its searcher, and back.

All changes are made under one lock. What the searcher decided and the trials that came out of it
are in the database before any of it is done, so a crash at any step costs nothing and starts
nothing twice: `resume` does what is missing.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from shipway_common.backoff import backoff_delays_s
from shipway_master.allocations.ids import TaskId
from shipway_master.errors import MasterError, Unavailable
from shipway_master.experiments.errors import ExperimentInWrongState
from shipway_master.experiments.records import ExperimentRecord, ExperimentRecords, TrialRecord
from shipway_master.experiments.states import RunState, get_end, stop
from shipway_master.experiments.trial import LiveTrial
from shipway_master.searchers.actions import Action, Create, EarlyExit, Shutdown, Stop
from shipway_master.searchers.searcher import Searcher
from shipway_master.tasks.errors import TaskRefused

log = logging.getLogger(__name__)


class LiveExperiment:
    """An experiment from its beginning to its end.

    Args:
        record: Its fields change.
        searcher: None for one that was continued: it has the trials that it has.
        make_trial: Makes a trial live.
        source_checkpoint: UUID of the checkpoint that new trials begin with.
        on_end: Hears of the end of the experiment, once it is stored.
    """

    def __init__(
        self,
        record: ExperimentRecord,
        *,
        searcher: Searcher | None,
        records: ExperimentRecords,
        make_trial: Callable[[LiveExperiment, TrialRecord], LiveTrial],
        source_checkpoint: str | None,
        on_end: Callable[[LiveExperiment], Awaitable[None]],
    ) -> None:
        self.record = record
        self.trials: dict[int, LiveTrial] = {}
        """By id, in the order of their making."""
        self._searcher = searcher
        self._records = records
        self._make_trial = make_trial
        self._source_checkpoint = source_checkpoint
        self._on_end = on_end
        self._lock = asyncio.Lock()
        self._told_of: set[int] = set()
        """The trials of whose ends the searcher has heard."""

    @property
    def name(self) -> str:
        """What log lines call it."""
        return f"Experiment {self.record.id}"

    @property
    def _is_ending(self) -> bool:
        """Whether the search is over: its trials may be heard of even after the experiment's end."""
        return self.record.state.is_stopping or self.record.state.is_final

    # its beginning

    def adopt(self, trials: Sequence[TrialRecord]) -> None:
        """Take the trials that it had when the master stopped."""
        for record in trials:
            self.trials[record.id] = self._make_trial(self, record)

    async def begin(self) -> None:
        """Let the searcher make the first trials."""
        async with self._lock:
            if self._searcher is not None:
                await self._apply(self._searcher.begin())

    async def resume(self) -> None:
        """Go on after a restart of the master, from wherever it was."""
        async with self._lock:
            actions: list[Action] = []
            if self._searcher is not None:
                is_new = self.record.search is None
                actions += self._searcher.begin() if is_new else self._searcher.outstanding()
            for trial in list(self.trials.values()):
                await self._surely(trial, partial(self._align, trial))
            await self._apply(actions)

    # what happens to its trials

    async def validated(self, trial_id: int, steps: int, metrics: Mapping[str, Any]) -> None:
        """Hear of a validation; a repeated one changes nothing."""
        async with self._lock:
            request_id = self._find_request(trial_id)
            if self._searcher is None or request_id is None or self._is_ending:
                return
            await self._apply(self._searcher.validated(request_id, metrics, steps_completed=steps))

    async def progressed(self, trial_id: int, fraction: float) -> None:
        """Hear how much of its work a trial has done."""
        async with self._lock:
            request_id = self._find_request(trial_id)
            if self._searcher is None or request_id is None or self.record.state.is_final:
                return
            self._searcher.set_progress(request_id, fraction)
            # Thousands of trials may report each second, and storing a search costs milliseconds.
            if round(self._searcher.progress(), 3) != round(self.record.progress or 0, 3):
                await self._apply()

    async def left_early(self, trial_id: int) -> None:
        """Hear that a trial cannot go on with the hyperparameters that it was given."""
        async with self._lock:
            request_id = self._find_request(trial_id)
            if self._searcher is None or request_id is None or self._is_ending:
                return
            await self._apply(self._searcher.trial_exited_early(request_id, EarlyExit.INVALID_HP))

    async def trial_ended(self, trial_id: int) -> None:
        """Hear that the task of a trial has come to its end; may come twice."""
        async with self._lock:
            trial = self.trials[trial_id]
            await self._surely(trial, trial.sync)  # if nothing ran, nobody has judged it yet
            log.info(
                "trial ended",
                extra={
                    "experiment_id": self.record.id,
                    "trial_id": trial_id,
                    "state": trial.record.state.value,
                },
            )
            await self._apply()

    def _find_request(self, trial_id: int) -> UUID | None:
        trial = self.trials.get(trial_id)
        if trial is None or trial.record.request_id is None:
            return None
        return UUID(trial.record.request_id)

    def _list_untold(self) -> list[TrialRecord]:
        trials = (trial.record for trial in self.trials.values())
        return [one for one in trials if one.state.is_final and one.id not in self._told_of]

    def _tell_of_ends(self) -> list[Action]:
        actions: list[Action] = []
        for trial in self._list_untold():
            self._told_of.add(trial.id)
            request_id = self._find_request(trial.id)
            if self._searcher is None or request_id is None or self._is_ending:
                continue
            if (reason := _find_reason(trial)) is not None:
                actions += self._searcher.trial_exited_early(request_id, reason)
            actions += self._searcher.trial_exited(request_id)
        return actions

    # what people want

    async def activate(self) -> None:
        """Let its trials run. Repeating changes nothing.

        Raises:
            ExperimentInWrongState: It is coming to its end.
        """
        async with self._lock:
            self._require_running("activated")
            await self._change(RunState.ACTIVE)
            for trial in list(self.trials.values()):
                await self._surely(trial, trial.activate)

    async def pause(self) -> None:
        """Have its trials leave their resources. Repeating changes nothing.

        Raises:
            ExperimentInWrongState: It is coming to its end.
        """
        async with self._lock:
            self._require_running("paused")
            await self._change(RunState.PAUSED)
            for trial in list(self.trials.values()):
                await self._surely(trial, trial.pause)

    async def stop(self, wish: RunState, *, reason: str) -> None:
        """Have all its trials come to their ends; repeating gives the signal again."""
        async with self._lock:
            await self._change(stop(self.record.state, wish))
            for trial in list(self.trials.values()):
                await self._surely(trial, partial(trial.stop, wish, reason=reason))
            await self._finish_if_done()

    async def stop_trial(self, trial_id: int, wish: RunState, *, reason: str) -> None:
        """Have one trial come to its end."""
        async with self._lock:
            await self.trials[trial_id].stop(wish, reason=reason)
            await self._apply()  # one that never ran has ended already

    async def update(self, change: Callable[[ExperimentRecord], None]) -> None:
        """Store a change of what people may change; it is as it was if that fails."""
        async with self._lock:
            changed = replace(self.record, config=copy.deepcopy(self.record.config))
            change(changed)
            await self._records.save(changed)
            change(self.record)

    async def _change(self, state: RunState) -> None:
        """Store what is wanted; it is as it was if that fails, and the caller can ask again."""
        if state is not self.record.state:
            await self._records.save(replace(self.record, state=state))
            self.record.state = state

    async def _align(self, trial: LiveTrial) -> None:
        """Want of a trial what is wanted of all: a crash may have come in between."""
        match self.record.state:
            case RunState.ACTIVE:
                await trial.activate()
            case RunState.PAUSED:
                await trial.pause()
            case RunState.STOPPING_CANCELED | RunState.STOPPING_KILLED:
                await trial.stop(self.record.state, reason="its experiment is being stopped")
            case _:
                await trial.sync()

    def _require_running(self, what: str) -> None:
        if self.record.state not in (RunState.ACTIVE, RunState.PAUSED):
            raise ExperimentInWrongState(
                f"experiment {self.record.id} is in state {self.record.state}, "
                f"and cannot be {what} any more"
            )

    # what the searcher wants

    async def _apply(self, actions: Sequence[Action] = ()) -> None:
        """Carry out what the searcher wants, and what it wants of the ends that come of that."""
        await self._carry_out([*actions, *self._tell_of_ends()])
        while self._list_untold():
            await self._carry_out(self._tell_of_ends())
        await self._finish_if_done()

    async def _carry_out(self, actions: Sequence[Action]) -> None:
        before = self.record.state, self.record.search, self.record.progress
        new: list[TrialRecord] = []
        stopped: dict[str | None, str] = {}
        queue = deque(actions)
        while queue:
            action = queue.popleft()
            match action:
                case Create():
                    new.append(self._draft_trial(action))
                    assert self._searcher is not None
                    queue.extend(self._searcher.trial_created(action.request_id))
                case Stop():
                    stopped[str(action.request_id)] = action.reason
                case Shutdown():
                    if action.reason:
                        log.warning("%s: %s", self.name, action.reason)
                    self.record.state = stop(self.record.state, _get_wish(action))
        if self._searcher is not None:
            self.record.search = self._searcher.snapshot()
            self.record.progress = self._searcher.progress()
        if new or before != (self.record.state, self.record.search, self.record.progress):
            await self._surely_save(partial(self._records.save, self.record, new_trials=new))
        for record in new:
            self.trials[record.id] = self._make_trial(self, record)
        for record in new:
            trial = self.trials[record.id]
            await self._surely(trial, trial.sync)
        for trial in list(self.trials.values()):
            if (reason := stopped.get(trial.record.request_id)) is not None:
                end = partial(trial.stop, RunState.STOPPING_COMPLETED, reason=reason)
                await self._surely(trial, end)

    async def _surely_save(self, save: Callable[[], Awaitable[None]]) -> None:
        """Store what the searcher has decided, which cannot be asked again; a full disk is waited for."""
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                await save()
                return
            except Unavailable as error:
                log.error(
                    "an experiment cannot be stored; trying again",
                    extra={"experiment_id": self.record.id, "error": str(error)},
                )
                await asyncio.sleep(delay_s)

    def _draft_trial(self, action: Create) -> TrialRecord:
        is_paused = self.record.state is RunState.PAUSED
        return TrialRecord(
            experiment_id=self.record.id,
            request_id=str(action.request_id),
            hparams=action.hparams,
            seed=action.seed,
            started_at=datetime.now(UTC),
            source_checkpoint=self._source_checkpoint,
            state=RunState.PAUSED if is_paused else RunState.ACTIVE,
            task_ids=[TaskId(f"{self.record.id}.{action.request_id}")],
        )

    async def _surely(self, trial: LiveTrial, work: Callable[[], Awaitable[None]]) -> None:
        """Do what follows from what is stored already; a full disk is waited for."""
        for delay_s in backoff_delays_s(limit_s=10.0):
            try:
                await work()
                return
            except Unavailable as error:
                log.error("%s has to wait; trying again", trial.name, extra={"error": str(error)})
                await asyncio.sleep(delay_s)
            except (MasterError, TaskRefused) as error:
                # Its task has ended with this as its reason, and is heard of like all that end.
                log.error("%s cannot go on", trial.name, extra={"error": str(error)})
                return

    async def _finish_if_done(self) -> None:
        if any(not trial.record.state.is_final for trial in self.trials.values()):
            return
        is_continued = self._searcher is None
        if not (self.record.state.is_stopping or is_continued) or self.record.state.is_final:
            return
        if is_continued and not self.record.state.is_stopping:
            states = {trial.record.state for trial in self.trials.values()}
            self.record.state = RunState.ERROR if RunState.ERROR in states else RunState.COMPLETED
        self.record.state = get_end(self.record.state)
        self.record.ended_at = datetime.now(UTC)
        if self.record.state is RunState.COMPLETED:
            self.record.progress = 1.0
        await self._surely_save(partial(self._records.end, self.record))
        log.info(
            "experiment ended",
            extra={"experiment_id": self.record.id, "state": self.record.state.value},
        )
        await self._on_end(self)


def _find_reason(trial: TrialRecord) -> EarlyExit | None:
    match trial.state:
        case RunState.COMPLETED:
            return None if trial.early_exit is None else EarlyExit.INVALID_HP
        case RunState.CANCELED:
            return EarlyExit.USER_CANCELED
        case _:
            return EarlyExit.ERRORED


def _get_wish(shutdown: Shutdown) -> RunState:
    if shutdown.failure:
        return RunState.STOPPING_ERROR
    return RunState.STOPPING_CANCELED if shutdown.cancel else RunState.STOPPING_COMPLETED
