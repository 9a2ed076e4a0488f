"""Mistakes in a configuration, all of them at once, each with its key."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shipway_common.settings import Problem
from shipway_master.experiments.config.masking import SECRET_KEYS
from shipway_master.structs import whole_as_int

_LONGEST: Final = 4000
"""Characters of all mistakes that are told; a text can have very many, and clients read no endless
errors."""
_LONGEST_PROBLEM: Final = 300
_MOST: Final = 200
"""So many mistakes of one text are looked into."""
_LONGEST_FOUND: Final = 60
_ABSENT: Final = object()
_HINTS: Final = {
    "unmanaged": "unknown key; whether an experiment is managed is said in the request",
    "log_retention_days": "unknown key; did you mean retention_policy.log_retention_days?",
    "experiment_seed": "unknown key; did you mean reproducibility.experiment_seed?",
    "slots_per_trial": "unknown key; did you mean resources.slots_per_trial?",
    "image": "unknown key; did you mean environment.image?",
}
_TYPES: Final = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "mapping_type": "a mapping",
}
_BOUNDS: Final = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


class BadExperimentConfig(ValueError):
    """The configuration cannot be used; the text names each mistake with its key."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Tell all *problems*."""
        self.problems = tuple(problems)
        told: list[str] = []
        length = 0
        for problem in self.problems:
            text = _shorten(str(problem), _LONGEST_PROBLEM)
            length += len(text)
            if length > _LONGEST:
                told.append("and more")
                break
            told.append(text)
        super().__init__(f"invalid experiment configuration: {'; '.join(told)}")


Place = tuple[int | str, ...]


def list_problems(
    error: ValidationError,
    raw: Mapping[str, Any],
    model: type[BaseModel],
    *,
    name_source: Callable[[Place], str] = lambda place: "",
    is_told: Callable[[ErrorDetails], bool] = lambda details: True,
) -> list[Problem]:
    """Tell the mistakes that *model* found in *raw*.

    Args:
        name_source: Says of a place where its value is from; empty for the user's own text.
        is_told: Says whether a mistake is one.
    """
    told: dict[str, Problem] = {}
    mistakes = [details for details in error.errors(include_url=False) if is_told(details)]
    for details in mistakes[:_MOST]:
        place = _cut(details["loc"], raw)
        key = ".".join(_shorten(str(part), _LONGEST_FOUND) for part in place) or "the whole"
        source = name_source(place)
        text = _explain(details, place, raw, model)
        problem = Problem(f"{source}: {key}" if source else key, text)
        told.setdefault(str(problem), problem)
    problems = list(told.values())
    if len(mistakes) > _MOST:
        problems.append(Problem("the rest", f"there are {len(mistakes) - _MOST} more mistakes"))
    return problems


def has_place(raw: object, place: Place) -> bool:
    """Say whether there is a value at *place*."""
    return _get(raw, place) is not _ABSENT


def _cut(place: Sequence[int | str], raw: object) -> Place:
    """Leave out of a place what is not in the data but in the models alone."""
    for length in range(len(place)):
        here = _get(raw, place[:length])
        if not isinstance(here, Mapping | list) or (
            isinstance(here, list) and not isinstance(place[length], int)
        ):
            return tuple(place[:length])
    return tuple(place)


def _get(raw: object, place: Sequence[int | str]) -> object:
    for part in place:
        if isinstance(raw, Mapping):
            raw = cast("Mapping[object, object]", raw).get(part, _ABSENT)
        elif isinstance(raw, list) and isinstance(part, int):
            values = cast("list[object]", raw)
            raw = values[part] if part < len(values) else _ABSENT
        else:
            return _ABSENT
    return raw


def _explain(
    details: ErrorDetails, place: Place, raw: Mapping[str, Any], model: type[BaseModel]
) -> str:
    kind, context = details["type"], details.get("ctx", {})
    found = _describe(details["input"], place)
    if kind == "extra_forbidden":
        return _explain_unknown(place, raw, model)
    if kind == "missing":
        return "missing"
    if kind in _TYPES:
        return f"it must be {_TYPES[kind]}, not {found}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"it must be {words} {whole_as_int(context[key])}, not {found}"
    if kind == "literal_error":
        return f"it must be {context['expected']}, not {found}"
    if kind in ("string_too_short", "too_short"):
        return "it must not be empty"
    return details["msg"].removeprefix("Value error, ")


def _describe(value: object, place: Sequence[int | str]) -> str:
    """Show a value that is short and no secret, and say of others what they are."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    is_secret = any(part in SECRET_KEYS or part == "secrets" for part in place)
    if isinstance(value, str | int | float) and not is_secret:
        shown = repr(value)
        if len(shown) <= _LONGEST_FOUND:
            return shown
    words: dict[type, str] = {str: "a text", int: "a number", float: "a number"}
    kind = next((word for type_, word in words.items() if isinstance(value, type_)), None)
    return kind or ("a mapping" if isinstance(value, Mapping) else "a list")


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _explain_unknown(place: Place, raw: Mapping[str, Any], model: type[BaseModel]) -> str:
    hint = _HINTS.get(".".join(map(str, place)))
    if hint is not None:
        return hint
    known = sorted(_find_keys(place[:-1], raw, model))
    near = difflib.get_close_matches(str(place[-1])[:80], known, n=1)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; known are {', '.join(known)}" if 0 < len(known) <= 12 else "unknown key"


def _find_keys(place: Place, raw: Mapping[str, Any], model: type[BaseModel]) -> set[str]:
    """Find the keys that there are at *place*."""
    here: Any = raw
    models: list[type[BaseModel]] = [model]
    for part in place:
        here = here[part]
        fields = [one.model_fields.get(str(part)) or one.model_fields.get("root") for one in models]
        annotations = [field.annotation for field in fields if field is not None]
        if annotations:  # else it is in a list or mapping of the same models
            models = [one for annotation in annotations for one in _list_models(annotation)]
        models = [one for one in models if _fits(one, here)]
    return {key for one in models for key in one.model_fields if key != "root"}


def _list_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _list_models(argument)


def _fits(model: type[BaseModel], value: object) -> bool:
    """Say whether a value names the model by its `type` or `name`."""
    if not isinstance(value, Mapping):
        return True
    given = cast("Mapping[str, object]", value)
    for key in ("type", "name"):
        field = model.model_fields.get(key)
        if field is not None and get_origin(field.annotation) is Literal:
            return given.get(key) in get_args(field.annotation)
    return True
