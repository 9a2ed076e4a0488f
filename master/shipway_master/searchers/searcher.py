"""A search that runs: told what becomes of its trials, it answers what is to be done."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final, Self
from uuid import UUID

from shipway_master.searchers.actions import Action, Create, EarlyExit, Shutdown, Stop
from shipway_master.searchers.bracket import Bracket
from shipway_master.searchers.config import (
    AdaptiveAshaConfig,
    AsyncHalvingConfig,
    GridConfig,
    RandomConfig,
    SearcherConfig,
)
from shipway_master.searchers.errors import BadSnapshot
from shipway_master.searchers.grid import Grid
from shipway_master.searchers.hyperparameters import Hyperparameters
from shipway_master.searchers.metrics import explain_no_time, read_time, read_value
from shipway_master.searchers.plan import plan_search
from shipway_master.searchers.sampling import Draw, sample
from shipway_master.searchers.trials import Trial, conclude

SNAPSHOT_VERSION: Final = 1
_HALVINGS: Final = (AsyncHalvingConfig, AdaptiveAshaConfig)


class Searcher:
    """The state of one search.

    Each event is answered by what to do next. Events may come twice, late, or about trials that
    nobody knows: they are answered by nothing then. After a `Shutdown` nothing more comes; trials
    that live at that time are stopped by the same answer.

    The same configuration and seed give the same trials in the same order: the first one created
    is the same whatever happens, and so is the second. What an event changed is in the `snapshot`
    taken after it; a search that is `restored` from there goes on as if it had never stopped.

    Args:
        config: The section `searcher`.
        hyperparameters: The section `hyperparameters`.
        seed: `reproducibility.experiment_seed`.

    Raises:
        BadSearch: The two sections do not fit each other.
    """

    def __init__(self, config: SearcherConfig, hyperparameters: Hyperparameters, seed: int) -> None:
        self._config = config
        self._space = hyperparameters
        self._seed = seed
        self._grid = Grid(hyperparameters) if isinstance(config, GridConfig) else None
        plans = plan_search(config, hyperparameters)
        self._planned = sum(plan.trials for plan in plans)
        self._brackets = [
            Bracket(
                plan,
                divisor=config.divisor if isinstance(config, _HALVINGS) else 1,
                replaces_invalid=isinstance(config, (RandomConfig, *_HALVINGS)),
            )
            for plan in plans
        ]
        self._trials: list[Trial] = []
        self._numbers: dict[UUID, int] = {}
        self._has_begun = False
        self._shutdown: Shutdown | None = None

    def begin(self) -> list[Action]:
        """Name the first trials."""
        if self._has_begun:
            return []
        self._has_begun = True
        return [create for bracket in range(len(self._brackets)) for create in self._fill(bracket)]

    def trial_created(self, request_id: UUID) -> list[Action]:
        """Take note that a trial is there, as it was asked for."""
        _, trial = self._find(request_id)
        if trial is not None:
            trial.is_created = True
        return []

    def validated(
        self, request_id: UUID, metrics: Mapping[str, Any], *, steps_completed: int | None = None
    ) -> list[Action]:
        """Take the validation metrics of a trial.

        Args:
            request_id: The trial.
            metrics: By name. One that is missing, no number or not finite is as bad as can be.
            steps_completed: Taken for the time if that is counted in batches, and is not among
                *metrics*.
        """
        number, trial = self._find(request_id)
        if trial is None or trial.is_stopped or trial.early_exit:
            return []
        if not isinstance(self._config, _HALVINGS):
            return []
        time = read_time(self._config, metrics, steps_completed=steps_completed)
        if time is None:  # nor will other trials say it
            return self._give_up(explain_no_time(self._config, metrics))
        value = read_value(self._config, metrics)
        if not self._brackets[trial.bracket].validated(number, time=time, value=value):
            return []
        trial.is_stopped = True
        return [self._stop(trial)]

    def trial_exited_early(self, request_id: UUID, reason: EarlyExit) -> list[Action]:
        """Take note why a trial ends before its time; that it has ended is still to be told."""
        number, trial = self._find(request_id)
        if trial is None or trial.early_exit:
            return []
        trial.early_exit = reason.value
        bracket = self._brackets[trial.bracket]
        if reason is EarlyExit.INVALID_HP:
            trial.is_replaced = bracket.found_invalid(number)
        elif not trial.is_stopped:  # or its last result counts
            bracket.failed(number)
        return []

    def trial_exited(self, request_id: UUID) -> list[Action]:
        """Give the place of a trial that has ended to another, or end the search with the last."""
        number, trial = self._find(request_id)
        if trial is None:
            return []
        trial.has_ended = True
        self._brackets[trial.bracket].ended(number)
        actions: list[Action] = list(self._fill(trial.bracket))
        if not actions and all(one.has_ended for one in self._trials):
            self._shutdown = conclude(self._trials)
            return [self._shutdown]
        return actions

    def set_progress(self, request_id: UUID, fraction: float) -> None:
        """Take note how far a trial is, from 0 to 1."""
        _, trial = self._find(request_id)
        if trial is not None and math.isfinite(fraction):
            trial.progress = min(max(fraction, 0.0), 1.0)

    def progress(self) -> float:
        """Say how far the search is, from 0 to 1; a trial that was stopped early is done."""
        counting = (trial for trial in self._trials if not trial.is_replaced)
        done = sum(1.0 if trial.has_ended else trial.progress for trial in counting)
        return min(done / self._planned, 1.0)

    def outstanding(self) -> list[Action]:
        """Repeat what was asked for and, as far as was told, has not come about.

        After a restart it is what may have been lost: trials to create, trials to stop, the end.
        """
        actions: list[Action] = []
        for number, trial in enumerate(self._trials):
            if trial.has_ended:
                continue
            if not trial.is_created and self._shutdown is None:
                actions.append(self._make(number))
            if trial.is_stopped:
                actions.append(self._stop(trial))
        return [*actions, self._shutdown] if self._shutdown is not None else actions

    def snapshot(self) -> dict[str, Any]:
        """Give the whole state as data that JSON can hold."""
        return {
            "version": SNAPSHOT_VERSION,
            "seed": self._seed,
            "has_begun": self._has_begun,
            "shutdown": asdict(self._shutdown) if self._shutdown else None,
            "trials": [trial.to_plain() for trial in self._trials],
            "brackets": [bracket.snapshot() for bracket in self._brackets],
        }

    @classmethod
    def restored(
        cls,
        config: SearcherConfig,
        hyperparameters: Hyperparameters,
        snapshot: Mapping[str, Any],
    ) -> Self:
        """Take up a search where *snapshot* left it.

        Raises:
            BadSnapshot: It is of another search, or of a version that this one cannot read.
        """
        if snapshot.get("version") != SNAPSHOT_VERSION:
            version = snapshot.get("version")
            raise BadSnapshot(f"a search was kept in form {version}, not {SNAPSHOT_VERSION}")
        searcher = cls(config, hyperparameters, snapshot["seed"])
        if len(snapshot["brackets"]) != len(searcher._brackets):
            raise BadSnapshot("a search was kept with another number of brackets")
        searcher._take(snapshot)
        return searcher

    def _take(self, snapshot: Mapping[str, Any]) -> None:
        self._has_begun = snapshot["has_begun"]
        self._shutdown = Shutdown(**snapshot["shutdown"]) if snapshot["shutdown"] else None
        self._trials = [Trial(**trial) for trial in snapshot["trials"]]
        self._numbers = {UUID(one.request_id): i for i, one in enumerate(self._trials)}
        for index, (bracket, kept) in enumerate(
            zip(self._brackets, snapshot["brackets"], strict=True)
        ):
            own = {i: one for i, one in enumerate(self._trials) if one.bracket == index}
            bracket.restore(
                kept,
                created=len(own),
                replaced=sum(one.is_replaced for one in own.values()),
                live={i for i, one in own.items() if not one.has_ended},
            )

    def _find(self, request_id: UUID) -> tuple[int, Trial | None]:
        """Find a trial that something may still happen to."""
        number = self._numbers.get(request_id, -1)
        if number < 0 or self._shutdown is not None or self._trials[number].has_ended:
            return number, None
        return number, self._trials[number]

    def _fill(self, index: int) -> Iterator[Create]:
        """Create the trials that a bracket is due."""
        bracket = self._brackets[index]
        while bracket.is_due:
            number = len(self._trials)
            create = self._make(number)
            self._trials.append(Trial(request_id=str(create.request_id), bracket=index))
            self._numbers[create.request_id] = number
            bracket.created(number)
            yield create

    def _make(self, number: int) -> Create:
        draw = Draw(self._seed, number)
        return Create(
            request_id=draw.uuid(),
            seed=draw.trial_seed(),
            hparams=self._grid.point(number) if self._grid else sample(self._space, draw),
        )

    def _stop(self, trial: Trial) -> Stop:
        request_id = UUID(trial.request_id)
        if self._shutdown is not None and self._shutdown.reason:
            return Stop(request_id=request_id, reason=self._shutdown.reason)
        return Stop(request_id=request_id)

    def _give_up(self, reason: str) -> list[Action]:
        for trial in self._trials:
            trial.is_stopped |= not trial.has_ended
        self._shutdown = Shutdown(failure=True, reason=reason)
        return self.outstanding()
