"""Settings of a daemon: flags over environment over file over defaults, every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails


class SettingsError(Exception):
    """The settings are wrong; the text lists each mistake with its place and key."""


class Settings(BaseModel):
    """Base of all settings models: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=Settings)


def parse_settings(
    model: type[Model],
    *,
    file_text: str | None = None,
    file_name: str = "settings file",
    environment: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Model:
    """Merge the sources, the later argument winning, and check the result.

    Args:
        model: What the settings must look like.
        file_text: YAML text of the settings file, if there is one.
        file_name: How to call the file in errors.
        environment: Values found in the environment, by (nested) key of *model*.
        flags: Values given on the command line, likewise; `None` means "not given".

    Raises:
        SettingsError: The file is no YAML mapping, a key is unknown or a value does not fit.
    """
    merged: dict[str, Any] = {}
    if file_text is not None:
        try:
            loaded: Any = yaml.safe_load(file_text)
        except yaml.YAMLError as error:
            raise SettingsError(f"{file_name} is not YAML: {error}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise SettingsError(f"{file_name} must be a mapping of keys to values")
        from_file = cast(dict[str, Any], loaded or {})
        merged = _merge(merged, from_file)
    merged = _merge(merged, environment or {})
    merged = _merge(merged, flags or {})
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'settings'}: {_explain(problem)}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError(f"{file_name}: " + "; ".join(problems)) from error


def _explain(problem: ErrorDetails) -> str:
    if problem["type"] == "extra_forbidden":
        return "unknown key"
    return problem["msg"].removeprefix("Value error, ")


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(low)
    for key, value in high.items():
        if isinstance(value, Mapping):
            below = result.get(key)
            known = cast(Mapping[str, Any], below if isinstance(below, Mapping) else {})
            given = _merge(known, cast(Mapping[str, Any], value))
            if given or below is None:  # else a wrong value below would go unnoticed
                result[key] = given
        elif value is not None:
            result[key] = value
    return result
