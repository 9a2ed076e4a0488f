"""Random choices: in their ranges, spread over them, and the same again for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest

from shipway_master.searchers.sampling import Draw, sample
from tests.master.searchers.sections import make_space

SPACE = make_space(
    batch={"type": "int", "minval": -2, "maxval": 2},
    dropout={"type": "double", "minval": 0.25, "maxval": 0.75},
    optimizer={
        "name": {"type": "categorical", "vals": ["sgd", None, {"adam": [1]}]},
        "rate": {"type": "log", "minval": -4, "maxval": -1, "base": 10},
        "options": {},
    },
    layers=[1, 2],
)


def test_a_sample_has_the_shape_of_the_space() -> None:
    chosen = sample(SPACE, Draw(1, 0))

    assert list(chosen) == ["batch", "dropout", "layers", "optimizer"]
    assert sorted(chosen["optimizer"]) == ["name", "options", "rate"]
    assert chosen["layers"] == [1, 2]
    assert chosen["optimizer"]["options"] == {}


def test_all_of_a_range_is_chosen_from() -> None:
    chosen = [sample(SPACE, Draw(7, number)) for number in range(2000)]

    whole = Counter(one["batch"] for one in chosen)
    assert sorted(whole) == [-2, -1, 0, 1, 2]
    assert min(whole.values()) > 300
    names = Counter(str(one["optimizer"]["name"]) for one in chosen)
    assert len(names) == 3
    assert min(names.values()) > 550
    halves = Counter(one["dropout"] < 0.5 for one in chosen)
    assert min(halves.values()) > 900
    assert all(0.25 <= one["dropout"] <= 0.75 for one in chosen)
    decades = Counter(int(one["optimizer"]["rate"] * 1000 // 1) > 0 for one in chosen)
    assert 1200 < decades[True] < 1467  # two of three decades are above 0.001
    assert all(1e-4 <= one["optimizer"]["rate"] <= 0.1 for one in chosen)


def test_the_same_again_for_the_same_seed_and_trial() -> None:
    assert sample(SPACE, Draw(3, 4)) == sample(SPACE, Draw(3, 4))
    assert sample(SPACE, Draw(3, 4)) != sample(SPACE, Draw(3, 5))
    assert sample(SPACE, Draw(3, 4)) != sample(SPACE, Draw(4, 4))


def test_the_same_on_every_python() -> None:
    # Recorded once: a search that was begun must go on the same with a newer Python.
    draw = Draw(1234, 5)

    assert str(draw.uuid()) == "6798c22f-e63b-4c90-95a3-68f889e3869e"
    assert draw.trial_seed() == 706875879
    assert draw.below(1000) == 276
    assert draw.between(-1, 1) == 0.8820442769386001


def test_a_trial_may_change_what_it_was_given() -> None:
    sample(SPACE, Draw(1, 0))["layers"].append(3)

    assert sample(SPACE, Draw(1, 0))["layers"] == [1, 2]


@pytest.mark.parametrize("bound", [1, 2, 3, 255, 256, 2**31, 2**64 - 1])
def test_below(bound: int) -> None:
    numbers = [Draw(9, number).below(bound) for number in range(300)]

    assert all(0 <= number < bound for number in numbers)
    assert len(set(numbers)) >= min(bound, 100)
