"""The way of reports into the database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from sqlalchemy.ext.asyncio import AsyncSession

from shipway_common.backoff import backoff_delays_s
from shipway_master.changes import Changes
from shipway_master.errors import InvalidArgument, MasterError, NotFound, Unavailable
from shipway_master.groupwriter import GroupWriter, Waiting
from shipway_master.store.database import Database
from shipway_master.trialmetrics.besttrial import write_best_trials
from shipway_master.trialmetrics.facts import TrialFacts
from shipway_master.trialmetrics.groups import VALIDATION, Kind, kind_of
from shipway_master.trialmetrics.report import Report, choose_batches, find_new
from shipway_master.trialmetrics.rollback import Cleared, archive
from shipway_master.trialmetrics.state import Step, TrialState, load_states, write_states
from shipway_master.trialmetrics.steps import Key, key_of, load_steps, write_steps

_AT_ONCE = 500
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Entry:
    """One report."""

    report: Report
    facts: TrialFacts


class MetricIntake:
    """Takes the reports of all trials; entered, it owns the task that writes them.

    Reports that wait at the same time share one transaction, in which each is taken as a whole or
    refused as a whole.
    """

    def __init__(self, database: Database, *, patience_s: float = 60) -> None:
        """Write into *database*.

        Args:
            patience_s: How long reports wait for a database that is away, in seconds. An answer
                that they cannot be stored ends the training that sent them.
        """
        self._database, self._patience_s = database, patience_s
        self._is_closing = asyncio.Event()
        self._changes: Changes[int] = Changes()
        self._cleared: dict[int, Cleared] = {}
        self._writer = GroupWriter(self._store, name="metrics", at_once=_AT_ONCE)

    async def __aenter__(self) -> Self:
        await self._writer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write what is still waiting, and take no more."""
        self._is_closing.set()
        await self._writer.__aexit__()

    @property
    def changes(self) -> Changes[int]:
        """Tells of each experiment, by its id, when there is something new."""
        return self._changes

    async def store(self, report: Report, facts: TrialFacts) -> None:
        """Store *report* and return when it is safe; one that is there already changes nothing.

        Raises:
            InvalidArgument: It is not of the present run of its trial.
            AlreadyExists: Something else was reported for the same step before.
            NotFound: The trial was deleted.
            Unavailable: The database is away for long, or the master is stopping; nothing was
                stored.
        """
        await self._writer.put(_Entry(report, facts))

    async def _store(self, group: Sequence[Waiting[_Entry]]) -> None:
        deadline_s = time.monotonic() + self._patience_s
        for delay_s in backoff_delays_s(first_s=0.2, limit_s=5):
            try:
                await self._try_to_store(group)
            except Unavailable:
                if self._is_closing.is_set() or time.monotonic() + delay_s > deadline_s:
                    raise
            else:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._is_closing.wait()

    async def _try_to_store(self, group: Sequence[Waiting[_Entry]]) -> None:
        work = _Work(group, self._cleared)
        async with self._database.writing() as session:
            await work.do(session)
        for trial_id, cleared in work.cleared.items():
            self._remember(trial_id, cleared)
        for experiment_id in {one.item.facts.experiment_id for one in group}:
            self._changes.announce(experiment_id)

    def _remember(self, trial_id: int, cleared: Cleared) -> None:
        self._cleared.pop(trial_id, None)
        if len(self._cleared) >= _REMEMBERED:
            del self._cleared[next(iter(self._cleared))]
        self._cleared[trial_id] = cleared


class _Work:
    """One transaction."""

    def __init__(self, group: Sequence[Waiting[_Entry]], known: Mapping[int, Cleared]) -> None:
        self._group, self._known = group, known
        self._facts = {one.item.report.trial_id: one.item.facts for one in group}
        self.cleared: dict[int, Cleared] = {}
        """What is so if the transaction succeeds."""

    async def do(self, session: AsyncSession) -> None:
        """Write the reports, and note on each that cannot be written why."""
        states = await load_states(session, self._facts)
        taken = [one for one in self._group if self._belongs(one, states)]
        await self._archive(session, taken, states)
        keys = {key for one in taken if (key := key_of(one.item.report)) is not None}
        known = await load_steps(session, keys)
        steps: list[Step] = list(known.values())
        for one in taken:
            try:
                self._take(one, states[one.item.report.trial_id], known, steps)
            except MasterError as error:
                one.refusal = error
        by_trial = states.__getitem__
        await write_steps(
            session, steps, needs_id=lambda step: by_trial(step.trial_id).awaits_id_of(step)
        )
        await write_states(session, states.values())
        changed = (state for state in states.values() if state.has_new_best)
        await write_best_trials(session, ((one, self._facts[one.trial_id]) for one in changed))

    def _belongs(self, one: Waiting[_Entry], states: Mapping[int, TrialState]) -> bool:
        report = one.item.report
        state = states.get(report.trial_id)
        one.refusal = None  # of an earlier try
        if state is None:
            one.refusal = NotFound("trial", report.trial_id)
        elif report.run != state.run:
            one.refusal = InvalidArgument(
                f"trial {report.trial_id} is in its run {state.run}, and this is a report of its"
                f" run {report.run}"
            )
        return one.refusal is None

    async def _archive(
        self,
        session: AsyncSession,
        taken: Sequence[Waiting[_Entry]],
        states: Mapping[int, TrialState],
    ) -> None:
        floors: defaultdict[int, dict[Kind, int]] = defaultdict(dict)
        for one in taken:
            report, kind = one.item.report, kind_of(one.item.report.group)
            if report.run <= 1 or report.steps is None:
                continue
            known = self._known.get(report.trial_id)
            if known and known.run == report.run and known.covers(kind, report.steps):
                continue
            of_trial = floors[report.trial_id]
            of_trial[kind] = min(of_trial.get(kind, report.steps), report.steps)
        for trial_id, of_trial in floors.items():
            state = states[trial_id]
            await archive(session, state, of_trial, self._facts[trial_id].searcher_metric)
            known = self._known.get(trial_id)
            before: Mapping[Kind, int] = known.floors if known and known.run == state.run else {}
            self.cleared[trial_id] = Cleared(run=state.run, floors={**before, **of_trial})

    def _take(
        self,
        one: Waiting[_Entry],
        state: TrialState,
        known: dict[Key, Step],
        steps: list[Step],
    ) -> None:
        report, key = one.item.report, key_of(one.item.report)
        step = known.get(key) if key is not None else None
        new = find_new({} if step is None else step.metrics, report.metrics)
        batches = choose_batches(None if step is None else step.batch_metrics, report.batch_metrics)
        if step is None:
            step = _begin(report)
            steps.append(step)
            if key is not None:
                known[key] = step
        elif new or batches is not step.batch_metrics:
            step.is_changed = True
        step.metrics.update(new)
        step.batch_metrics = batches
        state.add(step, new)
        metric = one.item.facts.searcher_metric
        if report.group == VALIDATION and metric is not None:
            state.judge(step, new, metric)


def _begin(report: Report) -> Step:
    return Step(
        id=None,
        trial_id=report.trial_id,
        run=report.run,
        group=report.group,
        steps=report.steps,
        reported_at=report.reported_at,
        metrics={},
        batch_metrics=None,
    )
