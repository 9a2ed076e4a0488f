"""Settings of a daemon: flags over environment over file over defaults, every mistake at once."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the settings."""

    place: str
    """The file and key, the variable or the flag that is wrong."""
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class SettingsError(Exception):
    """The settings are wrong; the text lists each mistake with its place and key."""

    def __init__(self, problems: str | Sequence[Problem]) -> None:
        """Tell one mistake by a text, or all of them."""
        self.problems: tuple[Problem, ...] = ()
        """Empty if there is but the text."""
        if isinstance(problems, str):
            super().__init__(problems)
        else:
            self.problems = tuple(problems)
            super().__init__("; ".join(map(str, problems)))


class Settings(BaseModel):
    """Base of all settings models: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=Settings)


def walk_fields(model: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Give each setting with its dotted key, those of sections in their places."""
    for name, field in model.model_fields.items():
        section = section_model(field)
        if section is None:
            yield prefix + name, field
        else:
            yield from walk_fields(section, f"{prefix}{name}.")


def section_model(field: FieldInfo) -> type[Settings] | None:
    """Return the model of a field that is a section of settings."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Settings) else None


def describe_field(field: FieldInfo) -> str:
    """Return what a setting means, with the words that can be chosen."""
    choices = get_args(field.annotation)
    text = field.description or ""
    if choices and all(isinstance(choice, str) for choice in choices):
        text += f" One of {', '.join(choices)}."
    return text


def parse_settings(
    model: type[Model],
    *,
    file_text: str | None = None,
    file_name: str = "settings file",
    environment: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    name_variable: Callable[[str], str] | None = None,
    name_flag: Callable[[str], str] | None = None,
) -> Model:
    """Merge the sources, the later argument winning, and check the result.

    Args:
        model: What the settings must look like.
        file_text: YAML text of the settings file, if there is one.
        file_name: How to call the file in errors.
        environment: Values found in the environment, by (nested) key of *model*.
        flags: Values given on the command line, likewise; `None` means "not given".
        name_variable: From a dotted key to the variable that a value of *environment* came from.
        name_flag: From a dotted key to the flag that a value of *flags* came from.

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
        sources = [(flags, name_flag), (environment, name_variable)]
        raise SettingsError(
            [
                Problem(_place(problem["loc"], sources, file_name), explain(problem, model))
                for problem in error.errors(include_input=False, include_url=False)
            ]
        ) from error


def _place(
    path: Sequence[int | str],
    sources: Sequence[tuple[Mapping[str, Any] | None, Callable[[str], str] | None]],
    file_name: str,
) -> str:
    """Say where the value at *path* was given; the first of *sources* that has it counts."""
    key = ".".join(str(part) for part in path)
    for values, name in sources:
        if name is not None and path and _has(values, path):
            return name(key)
    return f"{file_name}: {key or 'settings'}"


def _has(values: Mapping[str, Any] | None, path: Sequence[int | str]) -> bool:
    found: Any = values
    for part in path:
        if not isinstance(found, Mapping):
            return found is not None  # a value that is itself a list or the like
        found = cast("Mapping[object, Any]", found).get(part)
    return found is not None and not isinstance(found, Mapping)


def explain(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """Say what is wrong with one value; of an unknown key, which one may have been meant."""
    if problem["type"] == "extra_forbidden":
        near = _nearest(problem["loc"], model)
        return f"unknown key; did you mean {near}?" if near else "unknown key"
    if problem["type"] == "string_type":
        return "it must be a text; what YAML takes for a number or a truth value needs quotes"
    return problem["msg"].removeprefix("Value error, ")


def _nearest(path: Sequence[int | str], model: type[BaseModel]) -> str | None:
    """Find the key that may have been meant by an unknown one."""
    *sections, last = path
    for section in sections:
        field = model.model_fields.get(str(section))
        kind = field.annotation if field else None
        if not isinstance(kind, type) or not issubclass(kind, BaseModel):
            return None
        model = kind
    return next(iter(difflib.get_close_matches(str(last), model.model_fields, n=1)), None)


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
