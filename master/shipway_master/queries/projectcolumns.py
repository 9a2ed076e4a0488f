"""Which columns tables of a project can have: the fixed ones, and what its trials bring along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, and_, case, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.queries.columns import EXPERIMENT_COLUMNS, RUN_COLUMNS, Column
from shipway_master.queries.jsonvalues import (
    json_elements,
    json_members,
    json_text,
    member_type,
)
from shipway_master.queries.metricnames import AGGREGATES, make_metric_column
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.trialmetrics.groups import TRAINING, VALIDATION, group_of_key
from shipway_proto.determined.project.v1 import project_pb2 as project
from shipway_proto.determined.project.v1.project_pb2 import ColumnType, LocationType, ProjectColumn

_MAX_DEPTH: Final = 10
_TYPES: Final[dict[str, ColumnType.ValueType]] = {
    "string": project.COLUMN_TYPE_TEXT,
    "boolean": project.COLUMN_TYPE_TEXT,
    "number": project.COLUMN_TYPE_NUMBER,
    "date": project.COLUMN_TYPE_DATE,
    "array": project.COLUMN_TYPE_ARRAY,
}
_METRIC_LOCATIONS: Final[dict[str, LocationType.ValueType]] = {
    TRAINING: project.LOCATION_TYPE_TRAINING,
    VALIDATION: project.LOCATION_TYPE_VALIDATIONS,
}


async def list_experiment_columns(session: AsyncSession, project_id: int) -> list[ProjectColumn]:
    """List the columns of a project's experiments; metrics are those of best trials."""
    of_project = ExperimentRow.project_id == project_id
    best = TrialRow.id.in_(select(ExperimentRow.best_trial_id).where(of_project))
    return [
        *_fixed(EXPERIMENT_COLUMNS, project.LOCATION_TYPE_EXPERIMENT),
        *await _list_metrics(session, best),
        *await _list_searched(session, of_project),
    ]


async def list_run_columns(session: AsyncSession, project_id: int) -> list[ProjectColumn]:
    """List the columns of a project's runs."""
    of_project = TrialRow.project_id == project_id
    hparams = await _list_leaves(session, TrialRow.hparams, of_project)
    metadata = await _list_leaves(session, TrialRow.run_metadata, of_project)
    return [
        *_fixed(RUN_COLUMNS, project.LOCATION_TYPE_RUN),
        *await _list_metrics(session, of_project),
        *_of_leaves("hp", hparams, project.LOCATION_TYPE_RUN_HYPERPARAMETERS),
        *_of_leaves("metadata", metadata, project.LOCATION_TYPE_RUN_METADATA),
    ]


async def list_metadata_values(
    session: AsyncSession, project_id: int, path: Sequence[str]
) -> list[str]:
    """List the different texts that a project's runs have in their metadata at *path*."""
    of_project = TrialRow.project_id == project_id
    *above, key = path
    members = json_members(TrialRow.run_metadata, above)
    is_text = and_(members.c.key == key, member_type(members) == "string")
    single = (
        select(json_text(TrialRow.run_metadata, path))
        .select_from(TrialRow, members)
        .where(of_project, is_text)
    )
    elements = json_elements(TrialRow.run_metadata, path)
    several = select(elements.c.value).select_from(TrialRow, elements).where(of_project)
    found = await session.execute(single.union(several))
    return sorted(value for (value,) in found)


def _fixed(
    columns: Mapping[str, Column], location: LocationType.ValueType
) -> Iterable[ProjectColumn]:
    return (
        ProjectColumn(column=name, location=location, type=one.type, display_name=one.title)
        for name, one in columns.items()
        if one.is_shown
    )


async def _list_metrics(session: AsyncSession, which: ColumnElement[bool]) -> list[ProjectColumn]:
    groups = json_members(TrialRow.summary_metrics, [])
    metrics = json_members(groups.c.value, [])
    statement = (
        select(groups.c.key, metrics.c.key, json_text(metrics.c.value, ["type"]))
        .select_from(TrialRow, groups, metrics)
        .where(which)
        .distinct()
    )
    types: dict[tuple[str, str], set[str]] = defaultdict(set)
    for key, metric, type_name in await session.execute(statement):
        types[key, metric].add(type_name or "")
    columns: list[ProjectColumn] = []
    for (key, metric), names in sorted(types.items()):
        column_type = _join_types(names)
        is_number = column_type == project.COLUMN_TYPE_NUMBER
        location = _METRIC_LOCATIONS.get(group_of_key(key), project.LOCATION_TYPE_CUSTOM_METRIC)
        columns += [
            ProjectColumn(
                column=make_metric_column(key, metric, aggregate),
                location=location,
                type=column_type,
            )
            for aggregate in (AGGREGATES if is_number else ("last",))
        ]
    return columns


async def _list_searched(session: AsyncSession, which: ColumnElement[bool]) -> list[ProjectColumn]:
    """Hyperparameters as configurations have them: a mapping with a type, or a mapping of these."""
    found: dict[str, set[str]] = defaultdict(set)
    waiting: list[list[str]] = [[]]
    while waiting:
        path = waiting.pop()
        members = json_members(ExperimentRow.config, ["hyperparameters", *path])
        kind, value = _type_of_searched(members)
        statement = select(members.c.key, kind, value).select_from(ExperimentRow, members)
        for key, kind_name, value_type in await session.execute(statement.where(which).distinct()):
            if '"' in key:
                continue  # no filter can name it
            if kind_name is not None:
                found[".".join([*path, key])].add(_searched_type(kind_name, value_type))
            elif len(path) < _MAX_DEPTH:
                waiting.append([*path, key])
    return _of_leaves("hp", found, project.LOCATION_TYPE_HYPERPARAMETERS)


def _type_of_searched(members: Any) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The type of search of a hyperparameter, and of a fixed one the type of its value."""
    inner = json_members(members.c.value, [])
    its_value = select(member_type(inner)).select_from(inner).where(inner.c.key == "val").limit(1)
    is_object = member_type(members) == "object"
    kind = case((is_object, json_text(members.c.value, ["type"])))
    return kind, case((is_object, its_value.scalar_subquery()))


def _searched_type(kind: str, value_type: str | None) -> str:
    if kind == "const":
        return value_type or ""
    return "number" if kind in ("int", "double", "log") else ""


async def _list_leaves(
    session: AsyncSession, document: SQLColumnExpression[Any], which: ColumnElement[bool]
) -> dict[str, set[str]]:
    """Find all paths in JSON documents that end at no object, and what is there."""
    found: dict[str, set[str]] = defaultdict(set)
    waiting: list[list[str]] = [[]]
    while waiting:
        path = waiting.pop()
        for key, type_name in await session.execute(_select_members(document, path, which)):
            if '"' in key:
                continue  # no filter can name it
            if type_name == "object" and len(path) < _MAX_DEPTH:
                waiting.append([*path, key])
            elif type_name not in ("object", "null"):
                found[".".join([*path, key])].add(type_name)
    return found


def _select_members(
    document: SQLColumnExpression[Any], path: Sequence[str], which: ColumnElement[bool]
) -> Select[*tuple[Any, ...]]:
    members = json_members(document, path)
    return (
        select(members.c.key, member_type(members))
        .select_from(TrialRow, members)
        .where(which)
        .distinct()
    )


def _of_leaves(
    prefix: str, leaves: Mapping[str, set[str]], location: LocationType.ValueType
) -> list[ProjectColumn]:
    return [
        ProjectColumn(column=f"{prefix}.{path}", location=location, type=_join_types(names))
        for path, names in sorted(leaves.items())
    ]


def _join_types(names: set[str]) -> ColumnType.ValueType:
    """A column whose values are not all alike has no type."""
    types = {_TYPES.get(name, project.COLUMN_TYPE_UNSPECIFIED) for name in names}
    return types.pop() if len(types) == 1 else project.COLUMN_TYPE_UNSPECIFIED
