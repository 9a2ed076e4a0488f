"""Filters as the web page of Determined writes them: a tree of conditions as JSON text.

    {"filterGroup": {"kind": "group", "conjunction": "and", "children": [
        {"kind": "field", "columnName": "hp.lr", "location": "LOCATION_TYPE_RUN_HYPERPARAMETERS",
         "type": "COLUMN_TYPE_NUMBER", "operator": ">=", "value": 0.1}]},
     "showArchived": false}

This module reads them; what they mean in the database is the business of `conditions`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar, cast

from shipway_master.errors import InvalidArgument
from shipway_proto.determined.project.v1.project_pb2 import (
    LOCATION_TYPE_EXPERIMENT,
    ColumnType,
    LocationType,
)

_MAX_DEPTH: Final = 20
_MAX_CONDITIONS: Final = 500
"""More than any page offers; databases limit the size of a statement."""
_MAX_LENGTH: Final = 1 << 20
_LOCATIONS: Final[dict[str, int]] = dict(LocationType.items())
_TYPES: Final[dict[str, int]] = dict(ColumnType.items())

Choice = TypeVar("Choice", bound=StrEnum)


class Operator(StrEnum):
    """What a condition asks."""

    EQUAL = "="
    NOT_EQUAL = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    CONTAINS = "contains"
    NOT_CONTAINS = "notContains"
    IS_EMPTY = "isEmpty"
    NOT_EMPTY = "notEmpty"


class Conjunction(StrEnum):
    """How the members of a group are taken together."""

    AND = "and"
    OR = "or"


class _Kind(StrEnum):
    FIELD = "field"
    GROUP = "group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One question to one column; *value* is None only where the operator takes none."""

    column: str
    location: LocationType.ValueType
    type: ColumnType.ValueType
    operator: Operator
    value: str | float | bool | None
    place: str
    """Where in the filter it stands, for those who find something wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Conditions taken together; one without any holds always."""

    conjunction: Conjunction
    children: Sequence[Condition | Group]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """A whole filter."""

    group: Group
    shows_archived: bool


def parse_filter(text: str) -> Filter:
    """Read a filter; conditions that lack their value yet are left out.

    Raises:
        InvalidArgument: It is none; the text names the place.
    """
    if len(text) > _MAX_LENGTH:
        raise InvalidArgument(f"filter: longer than {_MAX_LENGTH} characters")
    try:
        loaded: Any = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"filter: not JSON: {error}") from error
    root = _mapping(loaded, "filter")
    archived = root.get("showArchived")
    if not isinstance(archived, bool | None):
        raise InvalidArgument("filter: showArchived: neither true nor false")
    reader = _Reader()
    tree = root.get("filterGroup")
    if tree is None:
        raise InvalidArgument("filter: filterGroup is missing")
    found = reader.read(tree, "filter: filterGroup", depth=0)
    members = [] if found is None else [found]
    group = (
        found if isinstance(found, Group) else Group(conjunction=Conjunction.AND, children=members)
    )
    return Filter(group=group, shows_archived=bool(archived))


class _Reader:
    def __init__(self) -> None:
        self._count = 0

    def read(self, node: Any, place: str, *, depth: int) -> Condition | Group | None:
        self._count += 1
        if self._count > _MAX_CONDITIONS:
            raise InvalidArgument(f"{place}: more than {_MAX_CONDITIONS} conditions")
        if depth > _MAX_DEPTH:
            raise InvalidArgument(f"{place}: more than {_MAX_DEPTH} levels of groups")
        known = _mapping(node, place)
        if _choose(_Kind, known.get("kind"), f"{place}.kind") is _Kind.GROUP:
            return self._read_group(known, place, depth)
        return _read_condition(known, place)

    def _read_group(self, node: Mapping[str, Any], place: str, depth: int) -> Group:
        conjunction = _choose(Conjunction, node.get("conjunction"), f"{place}.conjunction")
        children: Any = node.get("children") or []
        if not isinstance(children, list):
            raise InvalidArgument(f"{place}.children: not a list")
        found = [
            self.read(child, f"{place}.children[{number}]", depth=depth + 1)
            for number, child in enumerate(cast("Sequence[Any]", children))
        ]
        return Group(conjunction=conjunction, children=[one for one in found if one is not None])


def _read_condition(node: Mapping[str, Any], place: str) -> Condition | None:
    column = node.get("columnName")
    if not isinstance(column, str) or not column:
        raise InvalidArgument(f"{place}.columnName: not the name of a column")
    operator = _choose(Operator, node.get("operator"), f"{place}.operator")
    value = node.get("value")
    if isinstance(value, int) and not isinstance(value, bool):
        value = _to_float(value, f"{place}.value")
    if not isinstance(value, str | float | bool | None):
        raise InvalidArgument(f"{place}.value: neither text nor a number nor true nor false")
    if operator in (Operator.IS_EMPTY, Operator.NOT_EMPTY):
        value = None
    elif value is None:
        return None
    _require_whole(column, f"{place}.columnName")
    _require_whole(str(value), f"{place}.value")
    location = _enum(_LOCATIONS, node.get("location"), f"{place}.location")
    return Condition(
        column=column,
        location=LocationType.ValueType(location or LOCATION_TYPE_EXPERIMENT),
        type=ColumnType.ValueType(_enum(_TYPES, node.get("type"), f"{place}.type")),
        operator=operator,
        value=value,
        place=place,
    )


def _require_whole(text: str, place: str) -> None:
    """Refuse what JSON can write, and no text can have: half of a character, as \\ud800."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{place}: half of a character") from None


def _mapping(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{place}: not an object")
    return cast("Mapping[str, Any]", value)


def _choose(choices: type[Choice], value: Any, place: str) -> Choice:
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(choices)
        raise InvalidArgument(f"{place}: {_shown(value)} is none of {known}") from None


def _enum(numbers: Mapping[str, int], value: Any, place: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, str) or value not in numbers:
        raise InvalidArgument(f"{place}: {_shown(value)} is none of {', '.join(numbers)}")
    return numbers[value]


def _to_float(value: int, place: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise InvalidArgument(f"{place}: too large a number") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no value of JSON")


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)[:80]
