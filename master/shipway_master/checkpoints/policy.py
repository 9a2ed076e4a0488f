"""Which checkpoints of an experiment its policy keeps: pure rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How many checkpoints stay; one that any of the three names stays."""

    save_experiment_best: int = 0
    save_trial_best: int = 1
    save_trial_latest: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A checkpoint that has files."""

    uuid: str
    trial_id: int
    number: int
    """The higher, the later it was reported."""
    is_whole: bool
    """Whether all of its files are there, so that a trial can go on from it."""
    badness: float | None
    """The smaller, the better; None where nothing was measured at its step."""


def read_policy(storage: Mapping[str, Any]) -> Policy:
    """Read the policy that stands in the `checkpoint_storage` of a configuration."""
    names = ("save_experiment_best", "save_trial_best", "save_trial_latest")
    return Policy(**{name: storage[name] for name in names if storage.get(name) is not None})


def choose_removed(candidates: Sequence[Candidate], policy: Policy) -> list[Candidate]:
    """Choose those that no part of the policy names, in their order.

    Only what was measured can be among the best; the rest stays as the newest, or not at all.
    """
    trials: defaultdict[int, list[Candidate]] = defaultdict(list)
    for one in candidates:
        trials[one.trial_id].append(one)
    kept = _first(_measured(candidates), policy.save_experiment_best, by=_quality)
    for its in trials.values():
        kept |= _first(_measured(its), policy.save_trial_best, by=_quality)
        kept |= _first(its, policy.save_trial_latest, by=_age)
    return [one for one in candidates if one.uuid not in kept]


def _measured(candidates: Iterable[Candidate]) -> list[Candidate]:
    return [one for one in candidates if one.badness is not None]


def _quality(one: Candidate) -> tuple[float, int]:
    """Of equally good ones the older stays: it was the first to be that good."""
    return one.badness or 0.0, one.number


def _age(one: Candidate) -> tuple[bool, int]:
    return not one.is_whole, -one.number


def _first(
    candidates: Iterable[Candidate], count: int, *, by: Callable[[Candidate], tuple[float, int]]
) -> set[str]:
    return {one.uuid for one in sorted(candidates, key=by)[:count]}
