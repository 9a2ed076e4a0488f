"""The section `searcher`: what is taken, what is made of it, what is refused and how."""

from __future__ import annotations

from typing import Any

import pytest

from tests.master.searchers.sections import SEARCHER, list_mistakes

COMMON = {
    "metric": "loss",
    "smaller_is_better": True,
    "source_trial_id": None,
    "source_checkpoint_uuid": None,
}
HALVING = {"max_trials": 100, "time_metric": "epochs", "max_time": 9}


# What Determined 0.38.1 makes of the same sections (its schemas/test_cases/v0/defaults.yaml).
@pytest.mark.parametrize(
    ("given", "defaults"),
    [
        ({"name": "single"}, {}),
        ({"name": "random", "max_trials": 1000}, {"max_concurrent_trials": 16}),
        ({"name": "grid"}, {"max_concurrent_trials": 16}),
        (
            {"name": "async_halving", "num_rungs": 5, **HALVING},
            {"divisor": 4, "max_concurrent_trials": 16},
        ),
        (
            {"name": "adaptive_asha", **HALVING},
            {
                "bracket_rungs": [],
                "divisor": 4,
                "mode": "standard",
                "max_rungs": 5,
                "max_concurrent_trials": 16,
            },
        ),
    ],
    ids=lambda value: value.get("name", "defaults"),
)
def test_defaults_are_those_of_the_original(
    given: dict[str, Any], defaults: dict[str, Any]
) -> None:
    config = SEARCHER.validate_python({"metric": "loss", **given})

    plain = SEARCHER.dump_python(config, mode="json")

    assert plain == {**COMMON, **given, **defaults}
    assert SEARCHER.validate_python(plain) == config


def test_null_is_the_same_as_left_out() -> None:
    nulls = dict.fromkeys(("max_length", "max_concurrent_trials", "source_trial_id"))

    config = SEARCHER.validate_python({"name": "grid", "metric": "loss", **nulls})

    assert config == SEARCHER.validate_python({"name": "grid", "metric": "loss"})


def test_whole_numbers_may_come_as_floating_point() -> None:
    config = SEARCHER.validate_python({"name": "random", "metric": "loss", "max_trials": 5.0})

    assert SEARCHER.dump_python(config)["max_trials"] == 5


@pytest.mark.parametrize("length", [0, 50, {"batches": 1}, {"records": 2}, {"epochs": 3}])
def test_a_deprecated_length_stays_as_it_is(length: Any) -> None:
    config = SEARCHER.validate_python({"name": "single", "metric": "loss", "max_length": length})

    assert SEARCHER.dump_python(config, mode="json")["max_length"] == length


@pytest.mark.parametrize(
    "length", [-1, 2**63, "7", True, 1.5, float("inf"), {"batches": 0}, {"steps": 1}, {}, []]
)
def test_what_is_no_length(length: Any) -> None:
    section = {"name": "single", "metric": "loss", "max_length": length}

    assert "whole number" in list_mistakes(section)["max_length"]


def test_each_mistake_is_told_by_its_key() -> None:
    section = {
        "name": "adaptive_asha",
        "metric": 3,
        "max_trials": 0,
        "divisor": 1,
        "mode": "bold",
        "bracket_rungs": [2, 0],
        "max_concurrent_trials": True,
        "max_time": "9",
        "rungs": 3,
    }

    assert sorted(list_mistakes(section)) == [
        "bracket_rungs.1",
        "divisor",
        "max_concurrent_trials",
        "max_time",
        "max_trials",
        "metric",
        "mode",
        "rungs",
        "time_metric",
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("custom", "has been removed"),
        ("adaptive", "use adaptive_asha"),
        ("adaptive_simple", "use adaptive_asha"),
        ("sync_halving", "use async_halving"),
        ("pbt", "use adaptive_asha"),
        ("randm", "did you mean random?"),
        (None, "name is missing"),
        (3, "there is no searcher '3'"),
        (["single"], "there is no searcher"),
    ],
)
def test_a_wrong_name_is_told_what_to_take(name: Any, hint: str) -> None:
    assert hint in list_mistakes({"name": name, "metric": "loss"})[""]


@pytest.mark.parametrize("section", [None, 7, "single", [], ["name"]])
def test_what_is_no_section(section: Any) -> None:
    assert "a mapping" in list_mistakes(section)[""]


def test_a_length_does_not_stand_for_the_time() -> None:
    section = {"name": "adaptive_asha", "metric": "loss", "max_trials": 9}

    said = list_mistakes({**section, "max_length": {"epochs": 5}})[""]

    assert "time_metric: epochs and max_time: 5" in said


def test_trials_begin_with_one_checkpoint_at_most() -> None:
    section = {"name": "single", "metric": "x", "source_trial_id": 1, "source_checkpoint_uuid": "a"}

    assert "not both" in list_mistakes(section)[""]
