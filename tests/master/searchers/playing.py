"""A world for searches: trials that train, validate, fail and end in any order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

from shipway_master.searchers.actions import Action, Create, EarlyExit, Shutdown, Stop
from shipway_master.searchers.config import SearcherConfig
from shipway_master.searchers.hyperparameters import Hyperparameters
from shipway_master.searchers.searcher import Searcher

Objective = Callable[[Mapping[str, Any], float], float]
"""From hyperparameters and time to the searcher metric."""


@dataclass
class Playing:
    """A search, and its trials as a cluster would run them."""

    searcher: Searcher
    created: dict[UUID, Create] = field(default_factory=dict[UUID, Create])
    """All trials there ever were."""
    live: list[UUID] = field(default_factory=list[UUID])
    stopping: set[UUID] = field(default_factory=set[UUID])
    times: dict[UUID, int] = field(default_factory=dict[UUID, int])
    """How far each trial has trained."""
    shutdown: Shutdown | None = None
    most_at_once: int = 0

    def apply(self, actions: Sequence[Action]) -> None:
        """Do what the search wants."""
        for action in actions:
            assert self.shutdown is None, "nothing comes after a shutdown"
            match action:
                case Create():
                    assert action.request_id not in self.created
                    self.created[action.request_id] = action
                    self.live.append(action.request_id)
                    self.times[action.request_id] = 0
                    self.most_at_once = max(self.most_at_once, len(self.live))
                    self.apply(self.searcher.trial_created(action.request_id))
                case Stop():
                    assert action.request_id in self.live
                    assert action.request_id not in self.stopping
                    self.stopping.add(action.request_id)
                case Shutdown():
                    self.shutdown = action

    def begin(self) -> None:
        """Begin the search."""
        self.apply(self.searcher.begin())

    def validate(self, trial: UUID, metrics: Mapping[str, Any]) -> None:
        """Report a validation."""
        self.apply(self.searcher.validated(trial, metrics))

    def end(self, trial: UUID, reason: EarlyExit | None = None) -> None:
        """Let a trial end."""
        self.live.remove(trial)
        self.stopping.discard(trial)
        if reason is not None:
            self.apply(self.searcher.trial_exited_early(trial, reason))
        self.apply(self.searcher.trial_exited(trial))

    def play(
        self,
        objective: Objective,
        *,
        end: int,
        random: Random,
        fails: float = 0.0,
        step: int = 1,
        each_time: Callable[[], None] = lambda: None,
    ) -> None:
        """Train all trials, a random one at a time, until the search is over.

        Args:
            end: The time at which a trial has trained enough.
            fails: How likely it is that a trial leaves early instead of doing a step.
            each_time: Called after each step.
        """
        self.begin()
        for _ in range(100_000):
            if self.shutdown is not None:
                return
            assert self.live, "there is no trial and no end: the search hangs"
            trial = random.choice(self.live)
            if random.random() < fails:
                self.end(trial, random.choice(list(EarlyExit)))
            elif trial in self.stopping or self.times[trial] >= end:
                self.end(trial)
            else:
                self.times[trial] += step
                loss = objective(self.created[trial].hparams, self.times[trial])
                self.validate(trial, {"loss": loss, "batches": self.times[trial]})
            each_time()
        raise AssertionError("the search does not come to an end")


def restored(
    searcher: Searcher, config: SearcherConfig, hyperparameters: Hyperparameters
) -> Searcher:
    """Put a search away as text, and take it up again."""
    snapshot = json.dumps(searcher.snapshot(), allow_nan=False)
    return Searcher.restored(config, hyperparameters, json.loads(snapshot))
