"""Searches: how many trials, when the next one, when the end; and that they never hang."""

from __future__ import annotations

import math
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from shipway_master.searchers.actions import Create, EarlyExit, Shutdown, Stop
from shipway_master.searchers.errors import BadSnapshot
from shipway_master.searchers.searcher import Searcher
from tests.master.searchers.playing import Playing, restored
from tests.master.searchers.sections import make_searcher, make_space

SPACE = make_space(x={"type": "double", "minval": 0, "maxval": 1, "count": 12})
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("single", {}),
    ("random", {"max_trials": 10, "max_concurrent_trials": 3}),
    ("random", {"max_trials": 5, "max_concurrent_trials": 0}),
    ("grid", {"max_concurrent_trials": 5}),
    ("async_halving", {"max_trials": 12, "max_concurrent_trials": 4, "max_time": 16}),
    ("async_halving", {"max_trials": 12, "max_concurrent_trials": 0, "num_rungs": 1}),
    ("adaptive_asha", {"max_trials": 20, "max_concurrent_trials": 5, "max_time": 32}),
    ("adaptive_asha", {"max_trials": 3, "mode": "conservative", "max_time": 8, "divisor": 1.5}),
]
COUNTS = [1, 10, 5, 12, 12, 12, 20, 3]
each_method = pytest.mark.parametrize(
    ("name", "keys"), METHODS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(METHODS)]
)


def play(name: str = "random", seed: int = 1, **keys: Any) -> Playing:
    """Set a search up."""
    return Playing(Searcher(make_searcher(name, **keys), SPACE, seed))


def lose(hparams: Any, time: float) -> float:
    """Tell how bad it is, which gets better in time: the smaller x, the better in the end."""
    return float(hparams["x"]) + 1 / time


@pytest.mark.parametrize("number", range(len(METHODS)))
def test_all_trials_are_made_and_never_too_many_at_once(number: int) -> None:
    name, keys = METHODS[number]
    playing = play(name, **keys)

    playing.play(lose, end=64, random=Random(3))

    assert playing.shutdown == Shutdown()
    assert len(playing.created) == COUNTS[number]
    at_once = keys.get("max_concurrent_trials") or 16
    assert playing.most_at_once <= max(at_once, 2)
    assert playing.searcher.progress() == 1.0


@each_method
@pytest.mark.parametrize("seed", range(6))
def test_a_search_ends_whatever_happens(name: str, keys: dict[str, Any], seed: int) -> None:
    random = Random(seed)
    playing = play(name, **keys)
    searcher = playing.searcher
    progress = [0.0]

    def disturb() -> None:
        """Repeat old events, and tell of what nobody knows."""
        trial = random.choice([*playing.created, uuid4()])
        before = searcher.snapshot()
        if trial not in playing.live:
            assert searcher.validated(trial, {"loss": -1, "batches": 1}) == []
            assert searcher.trial_exited_early(trial, EarlyExit.ERRORED) == []
            assert searcher.trial_exited(trial) == []
            assert searcher.trial_created(trial) == []
            searcher.set_progress(trial, 0.5)
            assert searcher.snapshot() == before
        elif trial in playing.stopping:
            assert searcher.validated(trial, {"loss": -1, "batches": 1000}) == []
            assert searcher.snapshot() == before
        else:
            searcher.set_progress(trial, random.choice([0.1, 0.7, 7, -3, math.nan]))
        assert searcher.begin() == []
        progress.append(searcher.progress())
        assert 0 <= progress[-1] <= 1

    playing.play(lose, end=40, random=random, fails=0.05, step=3, each_time=disturb)

    assert playing.shutdown is not None
    assert not playing.live
    assert searcher.outstanding() == [playing.shutdown]


@each_method
@pytest.mark.parametrize("seed", range(3))
def test_a_restored_search_goes_on_as_if_it_had_never_stopped(
    name: str, keys: dict[str, Any], seed: int
) -> None:
    config = make_searcher(name, **keys)

    def played(is_restored: bool) -> Playing:
        playing = play(name, seed, **keys)

        def restore() -> None:
            if is_restored:
                playing.searcher = restored(playing.searcher, config, SPACE)

        random = Random(seed)
        playing.play(lose, end=40, random=random, fails=0.03, step=3, each_time=restore)
        return playing

    straight, stopped = played(False), played(True)

    assert stopped.created == straight.created
    assert stopped.times == straight.times
    assert stopped.shutdown == straight.shutdown
    assert stopped.searcher.snapshot() == straight.searcher.snapshot()


def test_the_same_seed_gives_the_same_trials_in_whatever_order_they_end() -> None:
    def created(seed: int, order: int) -> list[Create]:
        playing = play(seed=seed)
        playing.play(lose, end=3, random=Random(order))
        return list(playing.created.values())

    assert created(seed=5, order=1) == created(seed=5, order=2)
    assert created(seed=5, order=1) != created(seed=6, order=1)
    assert len({one.request_id for one in created(5, 1)}) == 16
    assert all(0 <= one.seed < 2**31 for one in created(5, 1))


def test_a_grid_is_searched_in_its_order() -> None:
    playing = play("grid")

    playing.play(lose, end=2, random=Random(1))

    assert [one.hparams["x"] for one in playing.created.values()] == pytest.approx(
        [i / 11 for i in range(12)]
    )


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([EarlyExit.ERRORED] * 3, Shutdown(failure=True, reason="all 3 trials failed")),
        ([EarlyExit.USER_CANCELED] * 3, Shutdown(cancel=True)),
        ([EarlyExit.ERRORED, EarlyExit.USER_CANCELED, EarlyExit.ERRORED], Shutdown()),
        ([EarlyExit.ERRORED, None, EarlyExit.ERRORED], Shutdown()),
    ],
)
def test_how_a_search_ends(reasons: list[EarlyExit | None], expected: Shutdown) -> None:
    playing = play(max_trials=3)
    playing.begin()

    for trial, reason in zip(list(playing.live), reasons, strict=True):
        playing.end(trial, reason)

    assert playing.shutdown == expected


def test_a_single_trial_that_fails_is_a_failed_experiment() -> None:
    playing = play("single")
    playing.begin()

    playing.end(playing.live[0], EarlyExit.ERRORED)

    assert playing.shutdown == Shutdown(failure=True, reason="the trial failed")


def test_invalid_hyperparameters_are_replaced_where_they_were_chosen_at_random() -> None:
    for name, count in (("random", 17), ("async_halving", 17), ("grid", 12), ("single", 1)):
        playing = play(name)
        playing.begin()

        playing.end(playing.live[0], EarlyExit.INVALID_HP)
        while playing.shutdown is None:
            playing.end(playing.live[0])

        assert len(playing.created) == count
        assert playing.shutdown == Shutdown()


def test_a_space_without_a_sensible_point_is_given_up() -> None:
    playing = play(max_trials=2)
    playing.begin()

    while playing.shutdown is None:
        playing.end(playing.live[0], EarlyExit.INVALID_HP)

    assert playing.shutdown.failure
    assert "hyperparameters are invalid" in playing.shutdown.reason
    assert len(playing.created) == 102


@pytest.mark.parametrize(
    "bad", [None, "NaN", "Infinity", math.nan, math.inf, -math.inf, True, [0.1], {"a": 1}], ids=str
)
def test_what_is_no_metric_counts_as_the_worst(bad: Any) -> None:
    playing = play("async_halving", divisor=2, max_concurrent_trials=2)
    playing.begin()
    first, second = playing.live

    playing.validate(first, {"loss": 1e300, "batches": 16})
    playing.validate(second, {"loss": bad, "batches": 16})

    assert playing.stopping == {second}


def test_a_missing_metric_counts_as_the_worst_and_a_large_one_as_the_best_if_so_wanted() -> None:
    playing = play("async_halving", smaller_is_better=False, max_concurrent_trials=3)
    playing.begin()
    first, second, third = playing.live

    playing.validate(first, {"loss": 5, "batches": 16})
    playing.validate(second, {"accuracy": 5, "batches": 16})
    playing.validate(third, {"loss": 6, "batches": 16})

    assert playing.stopping == {second}


def test_the_time_in_batches_is_known_anyhow() -> None:
    playing = play("async_halving")
    playing.begin()
    trial = playing.live[0]

    actions = playing.searcher.validated(trial, {"loss": 1}, steps_completed=64)

    assert actions == [Stop(request_id=trial)]


@pytest.mark.parametrize("time", [{}, {"epochs": "3"}, {"epochs": math.nan}], ids=str)
def test_a_search_cannot_do_without_its_time(time: dict[str, Any]) -> None:
    keys: dict[str, Any] = {"time_metric": "epochs", "max_concurrent_trials": 3}
    playing = play("adaptive_asha", **keys)
    playing.begin()
    trials = list(playing.live)
    playing.end(trials[0])
    trials = list(playing.live)

    playing.apply(playing.searcher.validated(trials[1], {"loss": 1, **time}, steps_completed=5))

    assert playing.shutdown is not None
    assert playing.shutdown.failure
    assert "a finite number 'epochs'" in playing.shutdown.reason
    assert "there were: " in playing.shutdown.reason
    assert playing.stopping == set(trials)
    again = restored(playing.searcher, make_searcher("adaptive_asha", **keys), SPACE)
    reason = playing.shutdown.reason
    stops = [Stop(request_id=one, reason=reason) for one in trials]
    assert again.outstanding() == [*stops, playing.shutdown]


def test_searches_that_stop_nothing_read_no_metrics() -> None:
    playing = play()
    playing.begin()

    playing.validate(playing.live[0], {})

    assert not playing.stopping


def test_what_may_have_been_lost_is_asked_for_again() -> None:
    config = make_searcher("async_halving", max_concurrent_trials=2)
    searcher = Searcher(config, SPACE, 1)
    first, second = searcher.begin()
    assert isinstance(first, Create)
    assert isinstance(second, Create)
    assert searcher.outstanding() == [first, second]

    searcher.trial_created(first.request_id)
    stop = searcher.validated(first.request_id, {"loss": 1, "batches": 64})
    assert stop == [Stop(request_id=first.request_id)]
    assert restored(searcher, config, SPACE).outstanding() == [*stop, second]

    (third,) = searcher.trial_exited(first.request_id)
    assert restored(searcher, config, SPACE).outstanding() == [second, third]


def test_progress_is_that_of_all_trials() -> None:
    playing = play(max_trials=4, max_concurrent_trials=2)
    assert playing.searcher.progress() == 0
    playing.begin()
    first, second = playing.live

    playing.searcher.set_progress(first, 0.5)
    assert playing.searcher.progress() == 0.125
    playing.end(second, EarlyExit.ERRORED)
    assert playing.searcher.progress() == 0.375
    playing.end(playing.live[1], EarlyExit.INVALID_HP)
    assert playing.searcher.progress() == 0.375


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"version": None}, {"brackets": []}, {"brackets": [[[]]]}],
    ids=str,
)
def test_the_state_of_another_search_is_not_taken_up(change: dict[str, Any]) -> None:
    config = make_searcher("async_halving")
    snapshot = Searcher(config, SPACE, 1).snapshot()

    with pytest.raises(BadSnapshot):
        Searcher.restored(config, SPACE, {**snapshot, **change})


@pytest.mark.parametrize("seed", range(5))
def test_sixteen_trials_find_the_good_ones(seed: int) -> None:
    keys: dict[str, Any] = {"max_trials": 16, "max_time": 64, "max_concurrent_trials": 4}
    playing = play("adaptive_asha", seed, **keys)

    playing.play(lose, end=64, random=Random(seed))

    by_x = sorted(playing.created, key=lambda trial: playing.created[trial].hparams["x"])
    trained: dict[UUID, int] = playing.times
    assert len(by_x) == 16
    finished = [trial for trial in by_x if trained[trial] == 64]
    assert 1 <= len(finished) < 8
    assert {by_x[0], by_x[1]} & set(finished), "one of the two best was trained to the end"
    assert sum(trained.values()) < 16 * 64 * 0.55, "half of the work was saved"
    worse = by_x[8:]
    assert sum(trained[trial] for trial in worse) < sum(trained[trial] for trial in by_x[:8])
