"""Whatever the sections hold: a search is made of them, or it is said what is wrong."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from shipway_master.searchers.errors import BadSearch
from shipway_master.searchers.hyperparameters import Hyperparameters
from shipway_master.searchers.preview import preview_search
from shipway_master.searchers.searcher import Searcher
from shipway_master.structs import to_struct
from tests.master.searchers.playing import Playing
from tests.master.searchers.sections import SEARCHER

SECTIONS: list[dict[str, Any]] = [
    {"name": "random", "metric": "loss", "max_trials": 3, "max_concurrent_trials": 2},
    {"name": "grid", "metric": "loss", "max_concurrent_trials": 0},
    {
        "name": "adaptive_asha",
        "metric": "loss",
        "max_trials": 9,
        "time_metric": "batches",
        "max_time": 16,
        "divisor": 2,
        "max_rungs": 3,
        "bracket_rungs": [],
        "mode": "standard",
        "max_concurrent_trials": 4,
    },
    {
        "name": "async_halving",
        "metric": "loss",
        "max_trials": 9,
        "time_metric": "batches",
        "max_time": 16,
        "num_rungs": 2,
        "divisor": 4,
        "max_length": {"batches": 3},
        "max_concurrent_trials": 0,
    },
]
SPACE: dict[str, Any] = {
    "i": {"type": "int", "minval": -3, "maxval": 3, "count": 2},
    "d": {"type": "double", "minval": 0, "maxval": 1, "count": 2},
    "n": {"l": {"type": "log", "minval": -3, "maxval": 3, "base": 10, "count": 2}, "e": {}},
    "c": {"type": "categorical", "vals": [1, None]},
    "k": [1],
}
STRANGE: list[Any] = [
    *(None, True, -1, 0, 1, 2, 1.5, 1e300, -1e300, 1e-300, 1.0000001, float("nan"), float("inf")),
    *(2**31 - 1, 2**31, 2**63, -(2**63), 10**320, "", "3", "batches", "x" * 5000, [], [1, 100]),
    *([0], {}, {"batches": 2}, {"type": "int"}, {"type": 3}, {"a": {"b": {}}}, [[[]]]),
]


def make_strange(value: Any, random: Random) -> Any:
    """Change something somewhere in *value*."""
    changed = copy.deepcopy(value)
    level: Any = changed
    while True:
        key = random.choice(list(level) if isinstance(level, dict) else range(len(level)))
        if isinstance(level[key], (dict, list)) and level[key] and random.random() < 0.7:
            level = level[key]
            continue
        if random.random() < 0.2 and isinstance(level, dict):
            del level[key]
        else:
            level[key] = copy.deepcopy(random.choice(STRANGE))
        return changed


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section["name"])
def test_strange_sections_are_searched_or_refused(section: dict[str, Any]) -> None:
    random = Random(section["name"])
    searched = 0
    for _ in range(500):
        given, space = section, SPACE
        for _ in range(random.randint(1, 3)):
            if random.random() < 0.5:
                given = make_strange(given, random) or section
            else:
                space = make_strange(space, random) or SPACE
        try:
            config = SEARCHER.validate_python(given)
            hyperparameters = Hyperparameters.model_validate(space)
            preview = preview_search(config, hyperparameters)
            playing = Playing(Searcher(config, hyperparameters, 1))
        except (ValidationError, BadSearch):
            continue
        assert all(trials.count >= 0 for trials in preview)
        assert sum(trials.count for trials in preview) > 0
        playing.begin()
        trial = playing.live[0]
        playing.validate(trial, {"loss": 1, "batches": 10**6})
        playing.end(trial)
        for create in playing.created.values():
            to_struct(create.hparams)
        json.dumps(playing.searcher.snapshot(), allow_nan=False)
        searched += 1
    assert searched > 30
