"""What never changes about a trial, looked up once: whose it is and what it is judged by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from shipway_master.allocations.ids import AllocationId, get_task_id
from shipway_master.auth import Principal
from shipway_master.errors import NotFound, PermissionDenied, Unauthenticated
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow, TrialRow, TrialTaskRow

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SearcherMetric:
    """What the trials of an experiment are compared by."""

    name: str
    smaller_is_better: bool

    def is_better(self, value: float, than: float | None) -> bool:
        """Tell whether *value* beats *than*, as each number beats None; NaN beats nothing."""
        if value != value:
            return False
        if than is None:
            return True
        return value < than if self.smaller_is_better else value > than


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFacts:
    """What stays as it is from the first day of a trial to its last."""

    experiment_id: int
    owner_id: int
    searcher_metric: SearcherMetric | None
    """None in an experiment that does not name one, as unmanaged ones need not."""


class KnownTrials:
    """The facts of trials, remembered: each report needs those of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._facts: dict[int, TrialFacts] = {}
        self._trials_of_tasks: dict[str, int] = {}

    async def get(self, trial_id: int) -> TrialFacts:
        """Find the facts of a trial, which may have been deleted meanwhile.

        Raises:
            NotFound: There never was one.
        """
        known = self._facts.get(trial_id)
        if known is None:
            known = await self._load(trial_id)
            _remember(self._facts, trial_id, known)
        return known

    async def get_for_report(self, trial_id: int, principal: Principal) -> TrialFacts:
        """Find the facts of a trial that *principal* wants to report for.

        Raises:
            NotFound: There is no such trial.
            PermissionDenied: He is neither its owner nor an administrator, or another trial.
            Unauthenticated: It is a task that has ended, and not the trial's own.
        """
        facts = await self.get(trial_id)
        principal.require_owner_or_admin(facts.owner_id)
        if principal.allocation_id is not None:
            task_id = get_task_id(AllocationId(principal.allocation_id))
            own_trial_id = await self._find_trial_of(task_id)
            if principal.has_ended and own_trial_id != trial_id:
                raise Unauthenticated("invalid credentials")
            if own_trial_id not in (None, trial_id):
                raise PermissionDenied("a trial may not report for another one")
        return facts

    async def _load(self, trial_id: int) -> TrialFacts:
        statement = (
            select(ExperimentRow.id, ExperimentRow.owner_id, ExperimentRow.config)
            .join(TrialRow, TrialRow.experiment_id == ExperimentRow.id)
            .where(TrialRow.id == trial_id)
        )
        async with self._database.reading() as session:
            found = (await session.execute(statement)).one_or_none()
        if found is None:
            raise NotFound("trial", trial_id)
        experiment_id, owner_id, config = found
        return TrialFacts(
            experiment_id=experiment_id,
            owner_id=owner_id,
            searcher_metric=read_searcher_metric(config),
        )

    async def _find_trial_of(self, task_id: str) -> int | None:
        known = self._trials_of_tasks.get(task_id)
        if known is None:
            statement = select(TrialTaskRow.trial_id).where(TrialTaskRow.task_id == task_id)
            async with self._database.reading() as session:
                known = await session.scalar(statement)
            if known is not None:
                _remember(self._trials_of_tasks, task_id, known)
        return known


def read_searcher(config: str) -> Mapping[str, Any]:
    """Read how the trials of an experiment are made, from its configuration as it is stored."""
    searcher: Mapping[str, Any] | None = json.loads(config).get("searcher")
    return searcher or {}


def read_searcher_metric(config: str) -> SearcherMetric | None:
    """Read what the trials of an experiment are compared by; None: by nothing."""
    searcher = read_searcher(config)
    name = searcher.get("metric")
    if not name:
        return None
    return SearcherMetric(
        name=name, smaller_is_better=searcher.get("smaller_is_better", True) is not False
    )


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= _REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = value
