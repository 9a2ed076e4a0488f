"""Configurations for the tests, out of the few keys that a test is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shipway_master.experiments.config import ExperimentConfig, parse_experiment_config
from shipway_master.tasks.defaults import TaskContainerDefaults

SEED = 1234
STORAGE: Mapping[str, Any] = {"type": "shared_fs", "host_path": "/checkpoints"}


def experiment(**keys: Any) -> dict[str, Any]:
    """Make what a user sends, with all that must be there."""
    return {
        "entrypoint": "python3 train.py",
        "searcher": {"name": "single", "metric": "loss"},
        **keys,
    }


def defaults(**keys: Any) -> TaskContainerDefaults:
    """Make the defaults of a pool."""
    return TaskContainerDefaults.model_validate(keys)


def parse(
    source: str | Mapping[str, Any],
    *,
    template: str | Mapping[str, Any] | None = None,
    below: TaskContainerDefaults | None = None,
    storage: Mapping[str, Any] | None = STORAGE,
    is_managed: bool = True,
) -> ExperimentConfig:
    """Read a whole configuration, on a master with a shared folder for checkpoints."""
    return parse_experiment_config(
        source,
        template=template,
        defaults=below,
        checkpoint_storage=storage,
        seed=SEED,
        is_managed=is_managed,
    )


def plain(source: str | Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Read a whole configuration and write it out, secrets revealed."""
    return parse(source, **options).to_plain(reveal=True)
