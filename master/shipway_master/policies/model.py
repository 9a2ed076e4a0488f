"""What a policy says, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

from pydantic import Field, ValidationError

from shipway_common.settings import Problem, Settings
from shipway_master.experiments.config.draft import read_part
from shipway_master.experiments.config.problems import list_problems
from shipway_master.tasks.model import TaskConfig
from shipway_master.yamltext import BadYaml, parse_yaml

_KEYS: Final = ("invariant_config", "constraints")


class Workload(StrEnum):
    """What a policy is for; the values are those of the API."""

    EXPERIMENT = "EXPERIMENT"
    NTSC = "NTSC"
    """Notebooks, TensorBoards, shells and commands."""


class ResourceLimits(Settings):
    """`constraints.resources`."""

    max_slots: int | None = Field(default=None, ge=0)
    """The most slots: of a task, of a trial, and of an experiment at any time."""


class Constraints(Settings):
    """`constraints`: what exceeds them is refused."""

    resources: ResourceLimits = ResourceLimits()
    priority_limit: int | None = Field(default=None, ge=1, le=99)
    """The smallest number that may be asked for, and so the highest priority."""


class BadPolicy(ValueError):
    """The text is no policy; names all mistakes in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one text says."""

    invariant_config: Mapping[str, Any] = field(repr=False)
    """Goes over what users send, silently."""
    constraints: Mapping[str, Any]

    @property
    def plain(self) -> dict[str, Any]:
        """As the user wrote it; a part that says nothing is left out."""
        parts = {"invariant_config": self.invariant_config, "constraints": self.constraints}
        return {name: dict(part) for name, part in parts.items() if part}


def parse_policy(text: str, workload: Workload) -> Policy:
    """Read the policy that a user sent, YAML or JSON; blocking.

    Raises:
        BadPolicy: It cannot be one.
    """
    try:
        raw = parse_yaml(text)
    except BadYaml as error:
        raise BadPolicy(str(error)) from error
    if not isinstance(raw, Mapping) or not raw:
        raise BadPolicy(f"a policy is a mapping with {' or '.join(_KEYS)} in it")
    parts: dict[str, Mapping[str, Any]] = {key: {} for key in _KEYS}
    for key, value in cast("Mapping[str, object]", raw).items():
        if key not in _KEYS:
            raise BadPolicy(f"{key[:80]!r} is no part of a policy, which are {', '.join(_KEYS)}")
        if not isinstance(value, Mapping | None):
            raise BadPolicy(f"{key}: it must be a mapping")
        parts[key] = cast("Mapping[str, Any]", value or {})
    problems = [
        *_find_mistakes(Constraints, parts["constraints"], "constraints"),
        *_check_config(parts["invariant_config"], workload),
    ]
    if problems:
        raise BadPolicy("; ".join(map(str, problems)))
    return Policy(**parts)


def _check_config(config: Mapping[str, Any], workload: Workload) -> list[Problem]:
    if workload is Workload.NTSC:
        return _find_mistakes(TaskConfig, config, "invariant_config")
    problems: list[Problem] = []
    read_part(config, problems, source="invariant_config")
    return problems


def _find_mistakes(model: type[Settings], raw: Mapping[str, Any], name: str) -> list[Problem]:
    try:
        model.model_validate_json(json.dumps(raw))
    except ValidationError as error:
        return list_problems(error, raw, model, name_source=lambda _: name)
    return []
