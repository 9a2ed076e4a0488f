"""Filters as expressions of the database; the values in them are always parameters."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    SQLColumnExpression,
    and_,
    case,
    exists,
    false,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.orm import aliased

from shipway_master.errors import InvalidArgument
from shipway_master.queries.columns import (
    BEST_TRIAL,
    EXPERIMENT_COLUMNS,
    RUN_COLUMNS,
    Column,
    Meaning,
)
from shipway_master.queries.filters import Condition, Conjunction, Filter, Group, Operator
from shipway_master.queries.jsonvalues import json_elements, json_number, json_text
from shipway_master.queries.metricnames import parse_metric_column
from shipway_master.queries.states import ACTIVE, shown_experiment_state, shown_trial_state
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.users import UserRow
from shipway_master.structs import whole_as_int
from shipway_proto.determined.project.v1 import project_pb2 as project

REFINED_STATES: Final = frozenset({"QUEUED", "PULLING", "STARTING", "RUNNING"})
_METRICS: Final = frozenset(
    {
        project.LOCATION_TYPE_VALIDATIONS,
        project.LOCATION_TYPE_TRAINING,
        project.LOCATION_TYPE_CUSTOM_METRIC,
    }
)
_ORDERINGS: Final[dict[Operator, Callable[[Any, Any], Any]]] = {
    Operator.EQUAL: operator.eq,
    Operator.NOT_EQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What is searched: experiments, or runs."""

    columns: Mapping[str, Column]
    trial: type[TrialRow]
    """The trial whose metrics and values count: the best one, or the run itself."""
    shown_state: Callable[[], ColumnElement[str]]
    not_archived: Callable[[], ColumnElement[bool]]


EXPERIMENTS: Final = Table(
    columns=EXPERIMENT_COLUMNS,
    trial=BEST_TRIAL,
    shown_state=shown_experiment_state,
    not_archived=lambda: not_(ExperimentRow.archived),
)
RUNS: Final = Table(
    columns=RUN_COLUMNS,
    trial=TrialRow,
    shown_state=shown_trial_state,
    not_archived=lambda: not_(or_(ExperimentRow.archived, TrialRow.archived)),
)


def compile_filter(wanted: Filter, table: Table) -> ColumnElement[bool]:
    """Turn a filter into a condition of a statement about *table*.

    Raises:
        InvalidArgument: A column is unknown, or its values cannot be compared so.
    """
    condition = _compile_group(wanted.group, table)
    return condition if wanted.shows_archived else and_(condition, table.not_archived())


def _compile_group(group: Group, table: Table) -> ColumnElement[bool]:
    if not group.children:
        return true()
    parts = [
        _compile_group(child, table) if isinstance(child, Group) else _compile(child, table)
        for child in group.children
    ]
    return and_(*parts) if group.conjunction is Conjunction.AND else or_(*parts)


def _compile(condition: Condition, table: Table) -> ColumnElement[bool]:
    column = condition.column
    if condition.location in _METRICS:
        path = parse_metric_column(column)
        if path is None:
            raise _wrong(condition, f"no metric has the name {column!r}")
        return _compare_json(table.trial.summary_metrics, path, condition)
    match condition.location:
        case project.LOCATION_TYPE_RUN_METADATA:
            return _compare_metadata(_path(condition, "metadata."), table, condition)
        case project.LOCATION_TYPE_RUN_HYPERPARAMETERS:
            return _compare_json(table.trial.hparams, _path(condition, "hp."), condition)
        case project.LOCATION_TYPE_HYPERPARAMETERS:
            path = _path(condition, "hp.")
            if table is RUNS:
                return _compare_json(TrialRow.hparams, path, condition)
            return _compare_searched(path, condition)
        case _:
            known = table.columns.get(column)
            if known is None:
                raise _wrong(condition, f"there is no column {column!r}")
            return _compare_column(known, table, condition)


def _path(condition: Condition, prefix: str) -> list[str]:
    return condition.column.removeprefix(prefix).split(".")


def _compare_column(known: Column, table: Table, condition: Condition) -> ColumnElement[bool]:
    expression = known.make()
    match known.meaning:
        case Meaning.NUMBER:
            return _compare_number(expression, condition)
        case Meaning.TEXT:
            return _compare_text(expression, condition)
        case Meaning.TIME:
            return _compare_time(expression, condition)
        case Meaning.TRUTH:
            return _compare_truth(expression, condition)
        case Meaning.LABELS:
            return _compare_elements(expression, (), condition)
        case Meaning.OWNER:
            return _compare_owner(condition)
        case Meaning.STATE:
            return _compare_state(expression, table, condition)


def _compare_number(
    expression: SQLColumnExpression[Any], condition: Condition
) -> ColumnElement[bool]:
    match condition.operator:
        case Operator.IS_EMPTY:
            return expression.is_(None)
        case Operator.NOT_EMPTY:
            return expression.is_not(None)
        case Operator.CONTAINS:
            return _ordered(expression, Operator.EQUAL, _number(condition))
        case Operator.NOT_CONTAINS:
            return _ordered(expression, Operator.NOT_EQUAL, _number(condition))
        case other:
            return _ordered(expression, other, _number(condition))


def _compare_text(
    expression: SQLColumnExpression[Any], condition: Condition
) -> ColumnElement[bool]:
    value = _text(condition)
    match condition.operator:
        case Operator.IS_EMPTY:
            return or_(expression.is_(None), expression == "")
        case Operator.NOT_EMPTY:
            return and_(expression.is_not(None), expression != "")
        case Operator.CONTAINS:
            return expression.icontains(value, autoescape=True)
        case Operator.NOT_CONTAINS:
            return or_(expression.is_(None), not_(expression.icontains(value, autoescape=True)))
        case other:
            return _ordered(expression, other, value)


def _compare_time(
    expression: SQLColumnExpression[Any], condition: Condition
) -> ColumnElement[bool]:
    match condition.operator:
        case Operator.IS_EMPTY:
            return expression.is_(None)
        case Operator.NOT_EMPTY:
            return expression.is_not(None)
        case Operator.CONTAINS | Operator.NOT_CONTAINS:
            raise _wrong(condition, "moments contain nothing; compare them with <, <=, > and >=")
        case other:
            return _ordered(expression, other, _moment(condition))


def _compare_truth(
    expression: SQLColumnExpression[Any], condition: Condition
) -> ColumnElement[bool]:
    match condition.operator:
        case Operator.EQUAL | Operator.CONTAINS:
            wanted = _truth(condition)
        case Operator.NOT_EQUAL | Operator.NOT_CONTAINS:
            wanted = not _truth(condition)
        case Operator.IS_EMPTY:
            return false()
        case Operator.NOT_EMPTY:
            return true()
        case _:
            raise _wrong(condition, "it is true or false, and has no order")
    return and_(expression) if wanted else not_(expression)


def _compare_owner(condition: Condition) -> ColumnElement[bool]:
    """Pages name owners by their ids; people who write filters by hand use their names."""
    value = _text(condition)
    if value.isascii() and value.isdigit() and len(value) < 10:
        return _compare_number(ExperimentRow.owner_id, condition)
    name = select(UserRow.username).where(UserRow.id == ExperimentRow.owner_id)
    return _compare_text(name.correlate(ExperimentRow).scalar_subquery(), condition)


def _compare_state(
    expression: SQLColumnExpression[Any], table: Table, condition: Condition
) -> ColumnElement[bool]:
    """ACTIVE stands for all that lives; how far it is can be asked for as well."""
    state = _text(condition).removeprefix("STATE_").upper()
    match condition.operator:
        case Operator.EQUAL | Operator.CONTAINS:
            is_wanted = True
        case Operator.NOT_EQUAL | Operator.NOT_CONTAINS:
            is_wanted = False
        case Operator.IS_EMPTY:
            return false()
        case Operator.NOT_EMPTY:
            return true()
        case _:
            raise _wrong(condition, "states have no order")
    if state in REFINED_STATES:
        matches = and_(expression == ACTIVE, table.shown_state() == state)
    else:
        matches = expression == state
    return matches if is_wanted else not_(matches)


def _compare_metadata(
    path: Sequence[str], table: Table, condition: Condition
) -> ColumnElement[bool]:
    if condition.type == project.COLUMN_TYPE_ARRAY:
        return _compare_elements(table.trial.run_metadata, path, condition)
    return _compare_json(table.trial.run_metadata, path, condition)


def _compare_json(
    document: SQLColumnExpression[Any], path: Sequence[str], condition: Condition
) -> ColumnElement[bool]:
    """Compare a value in JSON as a number when one is asked for, else as text.

    Moments are texts there; those of one time zone have the order of their texts.
    """
    is_number = condition.type == project.COLUMN_TYPE_NUMBER or (
        condition.type == project.COLUMN_TYPE_UNSPECIFIED and isinstance(condition.value, float)
    )
    if is_number:
        return _compare_number(json_number(document, path), condition)
    return _compare_text(json_text(document, path), condition)


def _compare_elements(
    document: SQLColumnExpression[Any], path: Sequence[str], condition: Condition
) -> ColumnElement[bool]:
    """Ask for an element that is, or contains, a text."""
    elements = json_elements(document, path)
    element: SQLColumnExpression[Any] = elements.c.value
    any_of = exists().select_from(elements)
    value = _text(condition)
    match condition.operator:
        case Operator.EQUAL:
            return any_of.where(element == value)
        case Operator.NOT_EQUAL:
            return not_(any_of.where(element == value))
        case Operator.CONTAINS:
            return any_of.where(element.icontains(value, autoescape=True))
        case Operator.NOT_CONTAINS:
            return not_(any_of.where(element.icontains(value, autoescape=True)))
        case Operator.IS_EMPTY:
            return not_(any_of)
        case Operator.NOT_EMPTY:
            return any_of
        case _:
            raise _wrong(condition, "lists have no order")


def _compare_searched(path: Sequence[str], condition: Condition) -> ColumnElement[bool]:
    """A fixed hyperparameter is compared itself, of one that is searched each trial's value.

    One trial that fits is enough.
    """
    config = ExperimentRow.config
    base = ["hyperparameters", *path]
    kind = json_text(config, [*base, "type"])
    match condition.operator:
        case Operator.IS_EMPTY:
            return json_text(config, base).is_(None)
        case Operator.NOT_EMPTY:
            return json_text(config, base).is_not(None)
        case _:
            pass
    trial = aliased(TrialRow)
    any_trial = exists().where(
        trial.experiment_id == ExperimentRow.id, _compare_json(trial.hparams, path, condition)
    )
    fixed = _compare_json(config, [*base, "val"], condition)
    return case((kind == "const", fixed), (kind.is_not(None), any_trial), else_=false())


def _ordered(
    expression: SQLColumnExpression[Any], wanted: Operator, value: Any
) -> ColumnElement[bool]:
    result: ColumnElement[bool] = _ORDERINGS[wanted](expression, value)
    return or_(expression.is_(None), result) if wanted is Operator.NOT_EQUAL else result


def _number(condition: Condition) -> float:
    if isinstance(condition.value, float):
        return condition.value
    try:
        return float(str(condition.value))
    except ValueError:
        raise _wrong(condition, f"{str(condition.value)[:80]!r} is not a number") from None


def _text(condition: Condition) -> str:
    match condition.value:
        case None:
            return ""
        case str() as text:
            return text
        case bool() as truth:
            return str(truth).lower()
        case number:
            return str(whole_as_int(number))


def _truth(condition: Condition) -> bool:
    value = _text(condition).lower()
    if value not in ("true", "false"):
        raise _wrong(condition, f"{value[:80]!r} is neither true nor false")
    return value == "true"


def _moment(condition: Condition) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(condition))
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except ValueError:
        raise _wrong(condition, f"{_text(condition)[:80]!r} is not a moment") from None


def _wrong(condition: Condition, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{condition.place}: {problem}")
