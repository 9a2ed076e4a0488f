"""The columns that tables of experiments and of runs have, and what they are in the database.

A statement that uses them selects from experiments; a column says which other tables it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Integer,
    SQLColumnExpression,
    String,
    cast,
    func,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.orm import aliased

from shipway_master.queries.jsonvalues import json_text
from shipway_master.store.base import microseconds
from shipway_master.store.experiments import ExperimentRow, TrialRow
from shipway_master.store.users import UserRow
from shipway_master.store.workspaces import ProjectRow, WorkspaceRow
from shipway_proto.determined.project.v1.project_pb2 import (
    COLUMN_TYPE_DATE,
    COLUMN_TYPE_NUMBER,
    COLUMN_TYPE_TEXT,
    COLUMN_TYPE_UNSPECIFIED,
    ColumnType,
)

BEST_TRIAL: Final = aliased(TrialRow, name="best_trials")
"""The best trial of a row of experiments, where there is one."""


class Meaning(Enum):
    """What the values of a column are, for those who compare them."""

    NUMBER = auto()
    TEXT = auto()
    TIME = auto()
    TRUTH = auto()
    LABELS = auto()
    OWNER = auto()
    STATE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column; *make* builds its expression, which may depend on what time it is."""

    title: str
    meaning: Meaning
    make: Callable[[], SQLColumnExpression[Any]]
    sorted_by: Callable[[], SQLColumnExpression[Any]] | None = None
    """What it is sorted by, where that is something else."""
    is_shown: bool = True
    """Whether clients offer it to people."""

    @property
    def type(self) -> ColumnType.ValueType:
        """The type that clients know it by."""
        return _TYPES[self.meaning]

    def make_sort_key(self) -> SQLColumnExpression[Any]:
        """Build what it is sorted by."""
        return (self.sorted_by or self.make)()


_TYPES: Final[dict[Meaning, ColumnType.ValueType]] = {
    Meaning.NUMBER: COLUMN_TYPE_NUMBER,
    Meaning.TEXT: COLUMN_TYPE_TEXT,
    Meaning.TIME: COLUMN_TYPE_DATE,
    Meaning.TRUTH: COLUMN_TYPE_UNSPECIFIED,
    Meaning.LABELS: COLUMN_TYPE_TEXT,
    Meaning.OWNER: COLUMN_TYPE_TEXT,
    Meaning.STATE: COLUMN_TYPE_TEXT,
}


def _duration_s(row: type[ExperimentRow] | type[TrialRow]) -> SQLColumnExpression[Any]:
    now_us = microseconds(datetime.now(UTC))
    ended = func.coalesce(type_coerce(row.ended_at, BigInteger), now_us)
    return (ended - type_coerce(row.started_at, BigInteger)) / 1e6


def _percent() -> SQLColumnExpression[Any]:
    return cast(func.round(func.coalesce(ExperimentRow.progress, 0.0) * 100), Integer)


def _of_searcher(key: str) -> Callable[[], SQLColumnExpression[Any]]:
    return lambda: json_text(ExperimentRow.config, ["searcher", key])


def _of_trials(value: SQLColumnExpression[Any]) -> SQLColumnExpression[Any]:
    its = select(value).where(TrialRow.experiment_id == ExperimentRow.id)
    return its.correlate(ExperimentRow).scalar_subquery()


def _sum(value: SQLColumnExpression[int]) -> SQLColumnExpression[Any]:
    return cast(func.coalesce(func.sum(value), 0), BigInteger)


def _number(title: str, make: Callable[[], Any], **more: Any) -> Column:
    return Column(title=title, meaning=Meaning.NUMBER, make=make, **more)


def _text(title: str, make: Callable[[], Any], **more: Any) -> Column:
    return Column(title=title, meaning=Meaning.TEXT, make=make, **more)


def _username() -> SQLColumnExpression[Any]:
    name = select(UserRow.username).where(UserRow.id == ExperimentRow.owner_id)
    return name.correlate(ExperimentRow).scalar_subquery()


_SHARED: Final[dict[str, Column]] = {
    "tags": Column(
        title="Tags",
        meaning=Meaning.LABELS,
        make=lambda: ExperimentRow.labels,
        sorted_by=lambda: func.nullif(json_text(ExperimentRow.labels, []), "[]"),
    ),
    "forkedFrom": _number("Forked", lambda: ExperimentRow.parent_id),
    "searcherType": _text("Searcher", _of_searcher("name")),
    "searcherMetric": _text("Searcher Metric", _of_searcher("metric")),
    "resourcePool": _text("Resource Pool", lambda: ExperimentRow.resource_pool),
    "user": Column(
        title="User",
        meaning=Meaning.OWNER,
        make=lambda: ExperimentRow.owner_id,
        sorted_by=_username,
    ),
    "externalExperimentId": _text("External Experiment ID", lambda: ExperimentRow.external_id),
}

EXPERIMENT_COLUMNS: Final[dict[str, Column]] = {
    "id": _number("ID", lambda: ExperimentRow.id),
    "name": _text("Name", lambda: ExperimentRow.name),
    "description": _text("Description", lambda: ExperimentRow.description),
    "startTime": Column(
        title="Start time", meaning=Meaning.TIME, make=lambda: ExperimentRow.started_at
    ),
    "endTime": Column(
        title="End time",
        meaning=Meaning.TIME,
        make=lambda: ExperimentRow.ended_at,
        is_shown=False,
    ),
    "duration": _number("Duration", lambda: _duration_s(ExperimentRow)),
    "numTrials": _number("Trial count", lambda: _of_trials(func.count())),
    "state": Column(title="State", meaning=Meaning.STATE, make=lambda: ExperimentRow.state),
    "progress": _number("Progress", _percent),
    "checkpointSize": _number(
        "Checkpoint size", lambda: _of_trials(_sum(TrialRow.checkpoint_bytes))
    ),
    "checkpointCount": _number("Checkpoints", lambda: _of_trials(_sum(TrialRow.checkpoint_count))),
    "searcherMetricsVal": _number("Searcher Metric Value", lambda: BEST_TRIAL.searcher_metric),
    "externalTrialId": _text(
        "External Trial ID", lambda: _of_trials(func.max(TrialRow.external_id))
    ),
    "projectId": _number("Project ID", lambda: ExperimentRow.project_id, is_shown=False),
    **_SHARED,
}
"""By the names that clients use; the statement has BEST_TRIAL joined."""

RUN_COLUMNS: Final[dict[str, Column]] = {
    "id": _number("Global Run ID", lambda: TrialRow.id),
    "experimentDescription": _text("Search Description", lambda: ExperimentRow.description),
    "startTime": Column(title="Start Time", meaning=Meaning.TIME, make=lambda: TrialRow.started_at),
    "endTime": Column(title="End Time", meaning=Meaning.TIME, make=lambda: TrialRow.ended_at),
    "duration": _number("Duration", lambda: _duration_s(TrialRow)),
    "state": Column(title="State", meaning=Meaning.STATE, make=lambda: TrialRow.state),
    "checkpointSize": _number("Checkpoint Size", lambda: TrialRow.checkpoint_bytes),
    "checkpointCount": _number("Checkpoints", lambda: TrialRow.checkpoint_count),
    "searcherMetricsVal": _number("Searcher Metric Value", lambda: TrialRow.searcher_metric),
    "projectId": _number("Project ID", lambda: TrialRow.project_id),
    "externalRunId": _text("External Run ID", lambda: TrialRow.external_id),
    "experimentProgress": _number("Search Progress", _percent),
    "experimentId": _number("Search ID", lambda: ExperimentRow.id),
    "experimentName": _text("Search Name", lambda: ExperimentRow.name),
    "isExpMultitrial": Column(
        title="Part of Search",
        meaning=Meaning.TRUTH,
        make=lambda: _of_searcher("name")() != "single",
    ),
    "parentArchived": Column(
        title="Parent Archived",
        meaning=Meaning.TRUTH,
        make=lambda: or_(ProjectRow.archived, WorkspaceRow.archived),
    ),
    "localId": _text("Run ID", lambda: ProjectRow.key + "-" + cast(TrialRow.id, String)),
    **_SHARED,
}
"""The same of runs; the statement has TrialRow, ProjectRow and WorkspaceRow joined."""
