"""One bracket of a search that runs: how many trials it has had, and what they showed."""

from __future__ import annotations

from typing import Any, Final

from shipway_master.searchers.halving import Halving
from shipway_master.searchers.plan import BracketPlan

_INVALID_PER_TRIAL: Final = 10
_INVALID_AT_LEAST: Final = 100


class Bracket:
    """Counts the trials of a plan and says when another one is due.

    Args:
        plan: What the bracket is to have.
        divisor: Of the halving, if the plan has rungs.
        replaces_invalid: Whether another trial takes the place of one whose hyperparameters make no
            sense. That has a limit, or a space without a single sensible point would never end.
    """

    def __init__(self, plan: BracketPlan, *, divisor: float, replaces_invalid: bool) -> None:
        self._plan = plan
        self._live: set[int] = set()
        self._created = 0
        self._replaced = 0
        most = max(_INVALID_PER_TRIAL * plan.trials, _INVALID_AT_LEAST)
        self._may_replace = most if replaces_invalid else 0
        self._halving = Halving(plan.rungs, divisor) if plan.rungs else None

    @property
    def is_due(self) -> bool:
        """Whether there is both room and need for another trial."""
        is_wanted = self._created - self._replaced < self._plan.trials
        return is_wanted and len(self._live) < self._plan.at_once

    def created(self, trial: int) -> None:
        """Count another trial."""
        self._created += 1
        self._live.add(trial)

    def ended(self, trial: int) -> None:
        """Give the place of a trial away."""
        self._live.discard(trial)

    def validated(self, trial: int, *, time: float, value: float) -> bool:
        """Take a result; say whether the trial is to stop."""
        return self._halving is not None and self._halving.validated(trial, time=time, value=value)

    def failed(self, trial: int) -> None:
        """Count a trial that went away early as one of the worst."""
        if self._halving is not None:
            self._halving.failed(trial)

    def found_invalid(self, trial: int) -> bool:
        """Leave a trial out of comparison; say whether another one takes its place."""
        if self._halving is not None:
            self._halving.forget(trial)
        if self._replaced >= self._may_replace:
            return False
        self._replaced += 1
        return True

    def snapshot(self) -> Any:
        """Give what the trials themselves do not tell."""
        return self._halving.snapshot() if self._halving is not None else []

    def restore(self, snapshot: Any, *, created: int, replaced: int, live: set[int]) -> None:
        """Take up the state of a bracket with the same plan.

        Raises:
            BadSnapshot: It had other rungs.
        """
        self._created, self._replaced, self._live = created, replaced, live
        if self._halving is not None:
            self._halving.restore(snapshot)
