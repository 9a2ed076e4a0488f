"""Sort texts, as `startTime=desc,hp.lr=asc`, as expressions of the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, SQLColumnExpression, case
from sqlalchemy.sql.elements import UnaryExpression

from shipway_master.errors import InvalidArgument
from shipway_master.queries.conditions import RUNS, Table
from shipway_master.queries.jsonvalues import json_number, json_text
from shipway_master.queries.metricnames import parse_metric_column
from shipway_master.store.experiments import ExperimentRow, TrialRow

_MAX_KEYS: Final = 20


def compile_sort(text: str, table: Table) -> list[UnaryExpression[Any]]:
    """Turn a sort text into what a statement is ordered by; ids make the order a whole one.

    What has no value comes last, in both directions.

    Raises:
        InvalidArgument: A column or a direction is unknown.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > _MAX_KEYS:
        raise InvalidArgument(f"sort: more than {_MAX_KEYS} columns")
    order: list[UnaryExpression[Any]] = []
    for part in parts:
        column, _, direction = part.rpartition("=")
        if not column or direction not in ("asc", "desc"):
            raise InvalidArgument(f"sort: {part[:80]!r} is not COLUMN=asc or COLUMN=desc")
        keys = _keys(column, table)
        directed = [key.desc() if direction == "desc" else key.asc() for key in keys]
        order += [key.nulls_last() for key in directed]
    return [*order, (TrialRow.id if table is RUNS else ExperimentRow.id).asc()]


def _keys(column: str, table: Table) -> Sequence[SQLColumnExpression[Any]]:
    known = table.columns.get(column)
    if known is not None:
        return [known.make_sort_key()]
    prefix, _, rest = column.partition(".")
    if prefix == "hp" and rest:
        return _hyperparameter(rest.split("."), table)
    if prefix == "metadata" and rest:
        return _value(table.trial.run_metadata, rest.split("."))
    path = parse_metric_column(column)
    if path is None:
        raise InvalidArgument(f"sort: there is no column {column[:80]!r}")
    return _value(table.trial.summary_metrics, path)


def _hyperparameter(path: Sequence[str], table: Table) -> Sequence[SQLColumnExpression[Any]]:
    """Of an experiment, fixed ones have a value, and of others the best trial's counts."""
    its = _value(table.trial.hparams, path)
    if table is RUNS:
        return its
    base = ["hyperparameters", *path]
    is_fixed = json_text(ExperimentRow.config, [*base, "type"]) == "const"
    fixed = _value(ExperimentRow.config, [*base, "val"])
    return [case((is_fixed, one), else_=other) for one, other in zip(fixed, its, strict=True)]


def _value(document: SQLColumnExpression[Any], path: Sequence[str]) -> list[ColumnElement[Any]]:
    """Numbers are sorted as such, before what is none."""
    return [json_number(document, path), json_text(document, path)]
