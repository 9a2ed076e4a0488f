"""What users send as a configuration, YAML or data, as plain data within limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from shipway_common.settings import Problem
from shipway_master.experiments.config.problems import BadExperimentConfig
from shipway_master.structs import whole_as_int
from shipway_master.yamltext import MAX_DEPTH, MAX_NODES, BadYaml, parse_yaml

_FREE: Final = ("data", "hyperparameters")
"""Sections in which null is a value."""


def read_mapping(source: str | Mapping[str, Any], *, name: str) -> dict[str, Any]:
    """Read a configuration; null is the same as absent.

    Args:
        name: How to call it in errors; empty for the user's own text.

    Raises:
        BadExperimentConfig: It is no mapping, or holds what JSON cannot.
    """
    try:
        plain: object = parse_yaml(source) if isinstance(source, str) else _copy(source)
    except BadYaml as error:
        raise BadExperimentConfig([Problem(name or "the text", str(error))]) from error
    if not isinstance(plain, Mapping):
        text = "it must be a mapping of keys to values"
        raise BadExperimentConfig([Problem(name or "the text", text)])
    given = cast("Mapping[str, Any]", plain)
    return {
        key: value if key in _FREE else drop_nulls(value)
        for key, value in given.items()
        if value is not None
    }


def drop_nulls(value: Any) -> Any:
    """Leave out the keys of mappings that hold null."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        return {key: drop_nulls(item) for key, item in items if item is not None}
    if isinstance(value, list):
        return [drop_nulls(item) for item in cast("Sequence[Any]", value)]
    return value


def _copy(source: Mapping[str, Any]) -> Any:
    """Copy data as YAML would have brought it."""
    left = MAX_NODES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise BadYaml(f"there are more than {MAX_NODES} values")
        if depth > MAX_DEPTH:
            raise BadYaml(f"more than {MAX_DEPTH} mappings and lists are within each other")
        if isinstance(value, Mapping):
            items = cast("Mapping[object, Any]", value).items()
            return {str(key): copy(item, depth + 1) for key, item in items}
        if isinstance(value, list | tuple):
            return [copy(item, depth + 1) for item in cast("Sequence[Any]", value)]
        return _check_scalar(value)

    return copy(source, 0)


def _check_scalar(value: object) -> object:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BadYaml(f"{value} is no number that JSON has")
        return whole_as_int(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadYaml("there is half a character (a lone surrogate)") from error
        return value
    raise BadYaml(f"a {type(value).__name__} has no place in it")
