"""The whole configuration out of what all its parts say, and what must hold for all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from shipway_common.settings import Problem
from shipway_master.experiments.config.model import ExperimentConfig, Part
from shipway_master.experiments.config.names import suggest_name
from shipway_master.experiments.config.problems import BadExperimentConfig, Place, list_problems
from shipway_master.experiments.config.storage import STORAGES
from shipway_master.searchers.plan import find_problems as find_problems_of_search
from shipway_master.tasks.logpolicy import DEFAULT_LOG_POLICIES, merge_log_policies

PREEMPTION_S: Final = 3600
"""How long trials may take to leave where nobody says."""
MAX_JSON_BYTES: Final = 128 * 1024 - len("DET_EXPERIMENT_CONFIG=") - 1
"""The kernel hands no longer variable to a process, and it is one of each trial's."""

NameSource = Callable[[Place], str]
"""Says where the value at a place is from; empty for the user's own text."""


def build_whole(
    part: Part, *, name_source: NameSource, seed: int, priority: int | None
) -> ExperimentConfig:
    """Fill in what no part says.

    Args:
        seed: The experiment's, unless *part* has one; of 32 bits.
        priority: The same for its priority.

    Raises:
        BadExperimentConfig: Something is missing or does not fit.
    """
    values = _fill_in(part, seed=seed, priority=priority)
    try:
        config = ExperimentConfig.model_validate(values)
    except ValidationError as error:
        problems = list_problems(error, values, ExperimentConfig, name_source=name_source)
        raise BadExperimentConfig(problems) from error
    problems = _find_misfits(config)
    if problems:
        raise BadExperimentConfig(problems)
    return config


def find_early(part: Part, *, name_source: NameSource) -> list[Problem]:
    """Find what is wrong in *part* whatever it is put over."""
    values = _fill_in(part, seed=0, priority=None)
    storage = values.pop("checkpoint_storage", {})
    with_storage = {**values, "checkpoint_storage": storage} if "type" in storage else values
    try:
        config = ExperimentConfig.model_validate(with_storage)
    except ValidationError as error:
        problems = list_problems(
            error,
            with_storage,
            ExperimentConfig,
            name_source=name_source,
            is_told=lambda details: _is_early(details, storage),
        )
        if problems:
            return problems
        config = ExperimentConfig.model_validate(values)
    return _find_misfits(config)


def find_missing(config: ExperimentConfig) -> list[Problem]:
    """Find what the master needs to run the trials."""
    problems: list[Problem] = []
    if config.entrypoint is None:
        problems.append(Problem("entrypoint", "missing; it says what runs"))
    if config.checkpoint_storage is None:
        text = "missing; neither the configuration nor workspace nor master says where it is"
        problems.append(Problem("checkpoint_storage", text))
    size = len(json.dumps(config.to_plain(reveal=True), separators=(",", ":")))
    if size > MAX_JSON_BYTES:
        text = (
            f"it has {size} bytes as JSON, and at most {MAX_JSON_BYTES} can be handed to a trial: "
            "put large data into a file of the model definition"
        )
        problems.append(Problem("the whole", text))
    return problems


def _fill_in(part: Part, *, seed: int, priority: int | None) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(part, name) for name in part.model_fields_set}
    if not values.get("checkpoint_storage"):
        values.pop("checkpoint_storage", None)
    if not values.get("name"):
        values["name"] = suggest_name(seed)
    if part.preemption_timeout is None:
        values["preemption_timeout"] = PREEMPTION_S
    if part.reproducibility.experiment_seed is None:
        update = {"experiment_seed": seed}
        values["reproducibility"] = part.reproducibility.model_copy(update=update)
    if part.resources.priority is None:
        values["resources"] = part.resources.model_copy(update={"priority": priority})
    values["log_policies"] = merge_log_policies(part.log_policies, DEFAULT_LOG_POLICIES)
    return values


def _is_early(details: ErrorDetails, storage: Mapping[str, Any]) -> bool:
    """Say whether a mistake stays one with more of a storage below it."""
    place = details["loc"]
    if place[:1] != ("checkpoint_storage",) or storage["type"] not in list(STORAGES):
        return True
    return len(place) > 1 and details["type"] != "missing"


def _find_misfits(config: ExperimentConfig) -> list[Problem]:
    problems = find_problems_of_search(config.searcher, config.hyperparameters)
    resources = config.resources
    if resources.max_slots is not None and resources.slots_per_trial > resources.max_slots:
        text = (
            f"{resources.slots_per_trial} are more than resources.max_slots "
            f"({resources.max_slots}) of all trials together"
        )
        problems.append(Problem("resources.slots_per_trial", text))
    return problems
