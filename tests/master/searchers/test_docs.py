"""docs/search.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from shipway_master.searchers.config import (
    AdaptiveAshaConfig,
    AsyncHalvingConfig,
    GridConfig,
    RandomConfig,
    SingleConfig,
)
from shipway_master.searchers.hyperparameters import (
    Categorical,
    Const,
    DoubleRange,
    IntRange,
    LogRange,
)
from shipway_master.searchers.plan import AT_ONCE_LIMIT
from shipway_master.searchers.preview import preview_search
from tests.master.searchers.sections import make_searcher, make_space

TEXT = (Path(__file__).parents[3] / "docs/search.md").read_text()
SEARCHERS = (SingleConfig, RandomConfig, GridConfig, AsyncHalvingConfig, AdaptiveAshaConfig)


def list_defaults() -> dict[str, Any]:
    """Give the keys of all searchers with their defaults; None where there is none."""
    found: dict[str, Any] = {}
    for model in SEARCHERS:
        for key, field in model.model_fields.items():
            found[key] = None if field.is_required() else field.default
    del found["name"]
    return found


DEFAULTS = list_defaults()


@pytest.mark.parametrize(("key", "default"), DEFAULTS.items(), ids=DEFAULTS)
def test_each_key_of_a_searcher_is_explained_with_its_default(key: str, default: Any) -> None:
    shown = {None: "", (): "", True: "`true`", "standard": "`standard`"}.get(default, str(default))
    in_table = re.search(rf"^\| `{key}` \| (.*?) ?\|", TEXT, re.MULTILINE)
    in_text = {"max_trials": "need `max_trials`", "max_concurrent_trials": f"`{key}` (16)"}

    assert in_text[key] in TEXT if key in in_text else in_table and in_table[1] == shown


@pytest.mark.parametrize(
    "model", [Const, Categorical, IntRange, DoubleRange, LogRange], ids=lambda model: model.__name__
)
def test_each_type_of_hyperparameter_is_explained_with_its_keys(model: Any) -> None:
    keys = set(model.model_fields) - {"type", "count"}
    row = re.search(rf"^\| `{model.model_fields['type'].default}` \| (.*?) \|", TEXT, re.MULTILINE)

    assert row
    assert set(re.findall(r"`(\w+)`", row[1])) == keys


def test_modes_save_as_much_work_as_it_says() -> None:
    for mode in ("aggressive", "standard", "conservative"):
        config = make_searcher("adaptive_asha", max_trials=500, max_time=256, mode=mode)
        preview = preview_search(config, make_space())
        work = sum(one.count * (one.time or 0) for one in preview) / 256
        row = re.search(rf"^\| `{mode}` \|.*", TEXT, re.MULTILINE)

        assert row
        assert f"{preview[0].count} end at 1, {preview[-1].count} train" in row[0]
        assert f" {work:.0f} whole trainings" in row[0]


def test_how_many_trials_are_at_once() -> None:
    assert f"More than {AT_ONCE_LIMIT:,} at a time" in TEXT
