"""From what a user sent to the whole configuration of an experiment.

What he wrote is put over a template; that much says where the experiment is to be (`Draft`). Then
what is known there is put below: the defaults of the pool, the storages of workspace and master.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from shipway_common.settings import Problem
from shipway_master.experiments.config.merge import merge_defaults, merge_parts
from shipway_master.experiments.config.model import ExperimentConfig, Part
from shipway_master.experiments.config.problems import (
    BadExperimentConfig,
    Place,
    has_place,
    list_problems,
)
from shipway_master.experiments.config.reading import drop_nulls, read_mapping
from shipway_master.experiments.config.storage import merge_storages
from shipway_master.experiments.config.whole import build_whole, find_early, find_missing
from shipway_master.tasks.defaults import TaskContainerDefaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What is known where an experiment is to be."""

    seed: int
    """Of 32 bits; the experiment's unless it says one."""
    defaults: TaskContainerDefaults = field(default_factory=TaskContainerDefaults)
    """Of its pool."""
    storages: Sequence[Mapping[str, Any]] = ()
    """The `checkpoint_storage` of its workspace and of the master, so far as they have one."""
    priority: int | None = None
    """What its pool gives to those that do not say."""
    is_managed: bool = True
    """Whether the master runs its trials."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a user's text and its template say, checked as far as they go."""

    part: Part = field(repr=False)
    layers: Mapping[str, Mapping[str, Any]] = field(repr=False)
    """What was sent, by what errors call it."""

    @property
    def workspace(self) -> str:
        """Name of the workspace; empty if none is named."""
        return self.part.workspace

    @property
    def project(self) -> str:
        """Name of the project; empty if none is named."""
        return self.part.project

    @property
    def resource_pool(self) -> str:
        """Name of the pool; empty if none is named."""
        return self.part.resources.resource_pool

    @property
    def slots_per_trial(self) -> int:
        """What each trial needs."""
        return self.part.resources.slots_per_trial

    @property
    def is_single_node(self) -> bool:
        """Whether a trial must be on one node."""
        return bool(self.part.resources.is_single_node)

    def complete(self, site: Site) -> ExperimentConfig:
        """Put it over what is known where the experiment is to be.

        Raises:
            BadExperimentConfig: Something is missing, or does not fit together.
        """
        part = merge_defaults(self.part, site.defaults)
        storage = part.checkpoint_storage
        for below in site.storages:
            storage = merge_storages(storage, drop_nulls(below))
        part = part.model_copy(update={"checkpoint_storage": storage})
        config = build_whole(
            part, name_source=self.name_source, seed=site.seed, priority=site.priority
        )
        problems = find_missing(config) if site.is_managed else []
        if problems:
            raise BadExperimentConfig(problems)
        return config

    def name_source(self, place: Place) -> str:
        """Say where the value at *place* is from, as errors call it."""
        return next((name for name, raw in self.layers.items() if has_place(raw, place)), "")


def read_experiment(
    source: str | Mapping[str, Any], *, template: str | Mapping[str, Any] | None = None
) -> Draft:
    """Check what a user sent, YAML or data, and put it over the template that he named.

    Raises:
        BadExperimentConfig: Something in either cannot be.
    """
    raw = read_mapping(source, name="")
    below = {} if template is None else read_mapping(template, name="template")
    problems: list[Problem] = []
    part = read_part(raw, problems, source="")
    low = read_part(below, problems, source="template")
    if has_place(raw, ("resources", "slots")):
        text = "unknown key; the slots of a trial are slots_per_trial"
        problems.append(Problem("resources.slots", text))
    draft = Draft(merge_parts(part, low), {"": raw, "template": below})
    problems += find_early(draft.part, name_source=draft.name_source)
    if problems:
        raise BadExperimentConfig(problems)
    return draft


def read_part(raw: Mapping[str, Any], problems: list[Problem], *, source: str) -> Part:
    """Check what one text says; of one with mistakes only the sections for the searcher stay.

    Args:
        problems: Mistakes are added to it.
        source: What to call the text in them; empty for the user's own.
    """
    try:
        return Part.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        problems += list_problems(error, raw, ExperimentConfig, name_source=lambda _: source)
        return _read_unchecked(raw)


def _read_unchecked(raw: Mapping[str, Any]) -> Part:
    names = ("searcher", "hyperparameters", "checkpoint_storage")
    kept = {name: raw[name] for name in names if isinstance(raw.get(name), Mapping)}
    return Part.model_construct(set(kept), **kept)


def parse_experiment_config(
    source: str | Mapping[str, Any],
    *,
    template: str | Mapping[str, Any] | None = None,
    defaults: TaskContainerDefaults | None = None,
    checkpoint_storage: Mapping[str, Any] | None = None,
    seed: int,
    is_managed: bool = True,
) -> ExperimentConfig:
    """Read a whole configuration where the place is known already.

    Raises:
        BadExperimentConfig: As `read_experiment` and `Draft.complete`.
    """
    site = Site(
        seed=seed,
        defaults=defaults or TaskContainerDefaults(),
        storages=() if checkpoint_storage is None else (checkpoint_storage,),
        is_managed=is_managed,
    )
    return read_experiment(source, template=template).complete(site)
