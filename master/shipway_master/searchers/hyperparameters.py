"""The section `hyperparameters` of an experiment configuration: the space that a search is in.

A mapping with a `type` is a hyperparameter, one without it holds further ones, and anything else,
a list included, stands for itself in every trial. Written back, what stood for itself has become
`{type: const, val: …}`, as in Determined.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from shipway_common.settings import Settings
from shipway_master.searchers.numbers import INT32_MAX, Number, WholeNumber

MAX_DEPTH: Final = 64
"""Mappings and lists within each other."""

_WIDEST: Final = 1e290
"""So far apart that sums and products over the range are numbers still."""


class Const(Settings):
    """One value."""

    type: Literal["const"] = "const"
    val: Any


class Categorical(Settings):
    """One value of a list; each may be anything."""

    type: Literal["categorical"] = "categorical"
    vals: Sequence[Any] = Field(min_length=1)

    @field_validator("vals", mode="before")
    @classmethod
    def _must_be_a_list(cls, value: object) -> object:
        if not isinstance(value, (list, tuple)):
            raise ValueError("it must be a list of values")
        return cast("Sequence[Any]", value)


class _Range(Settings):
    count: Annotated[WholeNumber, Field(ge=1, le=INT32_MAX)] | None = None
    """How many of its values a grid has."""

    @model_serializer(mode="wrap")
    def _leave_out_unset(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = write(self)
        return {key: item for key, item in plain.items() if item is not None}


class IntRange(_Range):
    """A whole number between two, both included."""

    type: Literal["int"] = "int"
    minval: WholeNumber
    maxval: WholeNumber

    @model_validator(mode="after")
    def _check(self) -> IntRange:
        _check_order(self.minval, self.maxval)
        return self


class DoubleRange(_Range):
    """A number between two, both included."""

    type: Literal["double"] = "double"
    minval: Number
    maxval: Number

    @model_validator(mode="after")
    def _check(self) -> DoubleRange:
        _check_order(self.minval, self.maxval)
        if self.maxval - self.minval > _WIDEST:
            raise ValueError("minval and maxval are too far from each other")
        return self


class LogRange(_Range):
    """A number between two powers of a base, its exponent evenly spread."""

    type: Literal["log"] = "log"
    minval: Number
    maxval: Number
    base: Annotated[Number, Field(gt=0)]

    @model_validator(mode="after")
    def _check(self) -> LogRange:
        _check_order(self.minval, self.maxval)
        for name, exponent in (("minval", self.minval), ("maxval", self.maxval)):
            try:
                power = math.pow(self.base, exponent)
            except OverflowError:
                power = math.inf
            if not 0 < power < math.inf:
                raise ValueError(
                    f"{name} is the exponent of base, and {self.base:g}**{exponent:g} is too large "
                    "or too small a number"
                )
        return self


def _check_order(minval: float, maxval: float) -> None:
    if not minval < maxval:
        raise ValueError("minval must be less than maxval")


Leaf = Const | IntRange | DoubleRange | LogRange | Categorical

_MODELS: Final[Mapping[str, type[Settings]]] = {
    "const": Const,
    "int": IntRange,
    "double": DoubleRange,
    "log": LogRange,
    "categorical": Categorical,
}


def _choose_model(value: object) -> object:
    """Check a hyperparameter by the model that is meant, so that mistakes are told by it."""
    if isinstance(value, (Settings, Nested)):
        return value
    if not isinstance(value, Mapping):
        return Const(val=value)
    given = cast("Mapping[str, object]", value)
    if "type" not in given:
        return Nested.model_validate(given)
    kind = given["type"]
    model = _MODELS.get(kind) if isinstance(kind, str) else None
    if model is None:
        known = ", ".join(_MODELS)
        raise ValueError(f"there is no type {str(kind)[:80]!r}: it is one of {known}")
    return model.model_validate(given)


class Nested(RootModel[Mapping[str, "Hyperparameter"]]):
    """Hyperparameters below a name of their own."""

    model_config = ConfigDict(frozen=True)


Hyperparameter = Annotated[Leaf | Nested, BeforeValidator(_choose_model)]


class Hyperparameters(RootModel[Mapping[str, Hyperparameter]]):
    """The whole section, as the type of a field."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _check_values(cls, value: object) -> object:
        _check_plain(value, MAX_DEPTH)
        return value

    def leaves(self) -> Iterator[tuple[tuple[str, ...], Leaf]]:
        """Give each hyperparameter with its path; on each level in the order of their names."""
        return _leaves(self.root, ())


def _leaves(
    level: Mapping[str, Leaf | Nested], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    for name in sorted(level):
        found = level[name]
        if not isinstance(found, Nested):
            yield (*path, name), found
        elif found.root:
            yield from _leaves(found.root, (*path, name))
        else:
            yield (*path, name), Const(val={})  # it is there in the trial, with nothing in it


def assemble(values: Iterable[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """Build the hyperparameters of a trial from values by their paths."""
    result: dict[str, Any] = {}
    for (*above, name), value in values:
        level = result
        for part in above:
            level = level.setdefault(part, {})
        level[name] = value
    return result


def _check_plain(value: object, depth: int) -> None:
    """Refuse what JSON cannot hold, and what is nested so deeply that nobody meant it."""
    if depth == 0:
        raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    match value:
        case None | bool() | str():
            return
        case int() | float():
            if not abs(value) <= sys.float_info.max:
                raise ValueError("a number is not finite, or larger than any computer's")
        case Mapping():
            for key, item in cast("Mapping[object, object]", value).items():
                if not isinstance(key, str):
                    raise ValueError(f"the key {str(key)[:80]!r} is no text")
                _check_plain(item, depth - 1)
        case list() | tuple():
            for item in cast("Sequence[object]", value):
                _check_plain(item, depth - 1)
        case _ if isinstance(value, (Settings, Nested)):
            return
        case _:
            raise ValueError(f"a {type(value).__name__} has no place here: quote it to make a text")


Nested.model_rebuild()
