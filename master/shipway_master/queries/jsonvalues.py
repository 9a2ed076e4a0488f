"""Values inside of JSON columns, as expressions that SQLite and PostgreSQL both understand.

A path is a sequence of keys. What is not there, and null, is NULL everywhere. The columns hold
JSON as Python writes it, without characters beyond ASCII.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    Double,
    FromClause,
    SQLColumnExpression,
    String,
    TableValuedAlias,
    column,
    literal,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from shipway_master.errors import InvalidArgument


class _AtPath(FunctionElement[Any]):
    """Something about the value at a path; its clauses are the column, the path and the keys."""

    inherit_cache = True


class _Text(_AtPath):
    inherit_cache = True
    type = String()


class _Number(_AtPath):
    inherit_cache = True
    type: TypeEngine[Any] = Double()


class _Members(FunctionElement[Any]):
    """The members of an object, as a table; none where there is no object."""

    inherit_cache = True


class _Elements(FunctionElement[Any]):
    """The elements of an array as texts, as a table; none where there is no array."""

    inherit_cache = True


class _MemberType(FunctionElement[str]):
    """The kind of a row of members; its clauses are SQLite's `type` and the value."""

    inherit_cache = True
    type = String()


def json_text(document: SQLColumnExpression[Any], keys: Sequence[str]) -> ColumnElement[str]:
    """The value at a path as text; `true` and `false` are written so, objects as JSON."""
    return _Text(*_arguments(document, keys))


def json_number(document: SQLColumnExpression[Any], keys: Sequence[str]) -> ColumnElement[float]:
    """The value at a path if it is a number; anything else is NULL."""
    return _Number(*_arguments(document, keys))


def json_members(document: SQLColumnExpression[Any], keys: Sequence[str]) -> TableValuedAlias:
    """The members of the object at a path as a table with `key` and `value`, for a FROM."""
    members = _Members(*_arguments(document, keys))
    return members.table_valued("key", "value", "type", joins_implicitly=True)


def member_type(members: FromClause) -> ColumnElement[str]:
    """What the value of a row of `json_members` is: string, number, boolean, array, object."""
    return _MemberType(members.c.type, members.c.value)


def json_elements(document: SQLColumnExpression[Any], keys: Sequence[str]) -> TableValuedAlias:
    """The elements of the array at a path as texts: a table with the column `value`."""
    elements = _Elements(*_arguments(document, keys))
    return elements.table_valued(column("value", String), joins_implicitly=True)


def _arguments(document: SQLColumnExpression[Any], keys: Sequence[str]) -> list[Any]:
    for key in keys:
        if '"' in key:  # older SQLites know no way to write it in a path
            raise InvalidArgument(f"names with quotation marks cannot be looked for: {key!r}")
    # Before 3.45, SQLite compared keys as they are written in the document.
    path = "$" + "".join(f'."{json.dumps(key)[1:-1]}"' for key in keys)
    return [document, literal(path, String), *(literal(key, String) for key in keys)]


def _on_sqlite(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> tuple[str, str]:
    document, path = list(element.clauses)[:2]
    return compiler.process(document, **kw), compiler.process(path, **kw)


def _on_postgresql(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    """The JSON at the path."""
    document, _, *keys = element.clauses
    text = f"CAST({compiler.process(document, **kw)} AS TEXT)"
    # Its text has no place for the character 0, and one in any document would fail the statement.
    text = f"CAST(CASE WHEN position('\\u0000' IN {text}) = 0 THEN {text} END AS JSON)"
    return f"({text} #> ARRAY[{', '.join(_as_text(key, compiler, **kw) for key in keys)}]::text[])"


def _as_text(key: ClauseElement, compiler: SQLCompiler, **kw: Any) -> str:
    return f"CAST({compiler.process(key, **kw)} AS TEXT)"


@compiles(_Text, "sqlite")
def _text_on_sqlite(element: _Text, compiler: SQLCompiler, **kw: Any) -> str:
    document, path = _on_sqlite(element, compiler, **kw)
    kind, value = f"json_type({document}, {path})", f"json_extract({document}, {path})"
    texts = "WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'"
    return f"(CASE {kind} {texts} ELSE CAST({value} AS TEXT) END)"


@compiles(_Text, "postgresql")
def _text_on_postgresql(element: _Text, compiler: SQLCompiler, **kw: Any) -> str:
    return f"({_on_postgresql(element, compiler, **kw)} #>> '{{}}')"


@compiles(_Number, "sqlite")
def _number_on_sqlite(element: _Number, compiler: SQLCompiler, **kw: Any) -> str:
    document, path = _on_sqlite(element, compiler, **kw)
    kind, value = f"json_type({document}, {path})", f"json_extract({document}, {path})"
    return f"(CASE WHEN {kind} IN ('integer', 'real') THEN {value} END)"


@compiles(_Number, "postgresql")
def _number_on_postgresql(element: _Number, compiler: SQLCompiler, **kw: Any) -> str:
    value = _on_postgresql(element, compiler, **kw)
    number = f"CAST({value} #>> '{{}}' AS DOUBLE PRECISION)"
    return f"(CASE WHEN json_typeof({value}) = 'number' THEN {number} END)"


@compiles(_Members, "sqlite")
def _members_on_sqlite(element: _Members, compiler: SQLCompiler, **kw: Any) -> str:
    return _each_on_sqlite(element, compiler, "object", **kw)


@compiles(_Members, "postgresql")
def _members_on_postgresql(element: _Members, compiler: SQLCompiler, **kw: Any) -> str:
    value = _on_postgresql(element, compiler, **kw)
    return f"json_each(CASE WHEN json_typeof({value}) = 'object' THEN {value} END)"


@compiles(_Elements, "sqlite")
def _elements_on_sqlite(element: _Elements, compiler: SQLCompiler, **kw: Any) -> str:
    return _each_on_sqlite(element, compiler, "array", **kw)


@compiles(_Elements, "postgresql")
def _elements_on_postgresql(element: _Elements, compiler: SQLCompiler, **kw: Any) -> str:
    value = _on_postgresql(element, compiler, **kw)
    array = f"CASE WHEN json_typeof({value}) = 'array' THEN {value} END"
    return f"json_array_elements_text({array})"


def _each_on_sqlite(
    element: FunctionElement[Any], compiler: SQLCompiler, kind: str, **kw: Any
) -> str:
    document, path = _on_sqlite(element, compiler, **kw)
    is_it = f"json_valid({document}) AND json_type({document}, {path}) = '{kind}'"
    return f"json_each(CASE WHEN {is_it} THEN {document} END, {path})"


@compiles(_MemberType, "sqlite")
def _type_on_sqlite(element: _MemberType, compiler: SQLCompiler, **kw: Any) -> str:
    kind, _ = element.clauses
    names = "WHEN 'text' THEN 'string' WHEN 'integer' THEN 'number' WHEN 'real' THEN 'number'"
    names += " WHEN 'true' THEN 'boolean' WHEN 'false' THEN 'boolean'"
    name = compiler.process(kind, **kw)
    return f"(CASE {name} {names} ELSE {name} END)"


@compiles(_MemberType, "postgresql")
def _type_on_postgresql(element: _MemberType, compiler: SQLCompiler, **kw: Any) -> str:
    _, value = element.clauses
    return f"json_typeof({compiler.process(value, **kw)})"
