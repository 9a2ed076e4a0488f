"""Sections of experiment configurations for the tests of searches."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError

from shipway_master.searchers.config import SearcherConfig
from shipway_master.searchers.hyperparameters import Hyperparameters

SEARCHER: TypeAdapter[SearcherConfig] = TypeAdapter(SearcherConfig)


def make_searcher(name: str, **keys: Any) -> SearcherConfig:
    """Build a `searcher` section; what a method must have and *keys* does not is made up."""
    section: dict[str, Any] = {"name": name, "metric": "loss"}
    if name in ("random", "async_halving", "adaptive_asha"):
        section |= {"max_trials": 16}
    if name in ("async_halving", "adaptive_asha"):
        section |= {"time_metric": "batches", "max_time": 64}
    if name == "async_halving":
        section |= {"num_rungs": 3}
    return SEARCHER.validate_python(section | keys)


def make_space(**hyperparameters: Any) -> Hyperparameters:
    """Build a `hyperparameters` section."""
    return Hyperparameters.model_validate(hyperparameters)


def list_mistakes(section: Any, kind: Any = SEARCHER) -> dict[str, str]:
    """Check a section that is wrong; give what is said, by dotted path."""
    try:
        kind.validate_python(section)
    except ValidationError as error:
        return {".".join(map(str, one["loc"])): one["msg"] for one in error.errors()}
    return {}
