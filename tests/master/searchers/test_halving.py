"""Asynchronous halving against a model of the published rule that knows nothing of ours."""

from __future__ import annotations

from random import Random

import pytest

from shipway_master.searchers.errors import BadSnapshot
from shipway_master.searchers.halving import WORST, Halving


class Model:
    """The rule, written down anew from its description.

    When a trial has trained for the time of a rung, its result is added to those of the rung. It
    goes on if it is among the best 1/divisor of them, or the very best while there are fewer than
    divisor. It stops at the last rung in any case. No result at all is behind all others.
    """

    def __init__(self, times: list[int], divisor: float) -> None:
        self.times = times
        self.divisor = divisor
        self.at_rung: list[dict[int, float]] = [{} for _ in times]

    def stops(self, trial: int, time: float, value: float) -> bool:
        """Say whether a trial that came to *time* with *value* is to stop."""
        for rung, needed in enumerate(self.times):
            seen = self.at_rung[rung]
            if trial in seen:
                continue
            if time < needed:
                return False
            seen[trial] = value
            if rung == len(self.times) - 1:
                return True
            better = sum(1 for other in seen.values() if other < value)
            if value == WORST:
                better = len(seen) - 1
            go_on = len(seen) // self.divisor or 1
            if better >= go_on:
                return True
        return False


@pytest.mark.parametrize("seed", range(20))
def test_trials_stop_by_the_published_rule(seed: int) -> None:
    random = Random(seed)
    divisor = random.choice([2, 3, 4, 1.5])
    times = sorted(random.sample(range(1, 40), random.randint(1, 5)))
    ours, model = Halving(times, divisor), Model(times, divisor)
    going = dict.fromkeys(range(60), 0)

    for _ in range(2000):
        if not going:
            break
        trial = random.choice(list(going))
        going[trial] += random.choice([1, 1, 2, 10])  # may come past several rungs at once
        value = random.choice([random.random(), 0.5, WORST])  # equal ones, and hopeless ones
        stops = ours.validated(trial, time=going[trial], value=value)
        assert stops == model.stops(trial, going[trial], value)
        if stops:
            del going[trial]
        if random.random() < 0.1:
            ours = copied(ours, times, divisor)

    assert not going


def copied(halving: Halving, times: list[int], divisor: float) -> Halving:
    """Put a halving away and take it up again."""
    other = Halving(times, divisor)
    other.restore(halving.snapshot())
    return other


def test_one_of_four_goes_on() -> None:
    halving = Halving([1, 4, 16], 4)

    stopped = [halving.validated(n, time=1, value=value) for n, value in enumerate([4, 3, 5, 2])]

    # The first is the best so far, and so is the second; they are not called back later.
    assert stopped == [False, False, True, False]


def test_equal_results_are_equally_good() -> None:
    halving = Halving([1, 4], 2)

    assert [halving.validated(n, time=1, value=7) for n in range(4)] == [False] * 4


def test_a_trial_that_failed_is_the_worst_of_its_rung() -> None:
    halving = Halving([1, 4], 2)
    halving.failed(0)
    halving.failed(1)
    halving.failed(2)

    assert not halving.validated(3, time=1, value=5)
    assert halving.validated(4, time=1, value=WORST)


def test_nobody_is_compared_with_a_forgotten_trial() -> None:
    halving = Halving([1, 4], 2)
    halving.validated(0, time=1, value=1)

    halving.forget(0)

    assert not halving.validated(1, time=1, value=2)


def test_a_halving_with_other_rungs_is_not_taken_up() -> None:
    with pytest.raises(BadSnapshot, match="1 rungs was kept with 2"):
        Halving([1], 2).restore(Halving([1, 2], 2).snapshot())
