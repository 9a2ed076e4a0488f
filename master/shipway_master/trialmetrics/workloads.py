"""The steps of a trial in one list: what it reported, and its checkpoints among that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    Select,
    case,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.state import WITH_FILES
from shipway_master.pages import find_window
from shipway_master.queries.jsonvalues import json_number
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.database import Database
from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.trialmetrics.groups import TRAINING, VALIDATION
from shipway_master.trialmetrics.reading import StoredReport, load_reports
from shipway_proto.determined.api.v1.pagination_pb2 import Pagination

_BY_STEPS = ("", "batches", "total_batches")
"""Sort keys that name no metric."""
_CHECKPOINT = 3
_BATCH = 500
_Row = TrialMetricRow
_Steps = Select[*tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which steps of a trial, in which order."""

    trial_id: int
    groups: Sequence[str] | None
    """None: all of them; an empty one: no reports."""
    with_checkpoints: bool
    with_deleted: bool
    sort_key: str
    descending: bool
    offset: int
    limit: int
    """0 or below: all, but -2: none."""
    with_batches: bool


async def load_workloads(
    database: Database, wanted: Wanted
) -> tuple[list[StoredReport | CheckpointRow], Pagination]:
    """Load one page of the steps of a trial."""
    found = _find(wanted).cte("found")
    async with database.reading() as session:
        total = await session.scalar(select(func.count()).select_from(found)) or 0
        limit = wanted.limit or -1
        window = find_window(total, offset=wanted.offset, limit=limit)
        count = window.end_index - window.start_index
        statement = select(found.c.rank, found.c.id).order_by(*_order(found, wanted))
        page = await session.execute(statement.limit(count).offset(window.start_index))
        keys = [(rank, row_id) for rank, row_id in page]
        return await _load(session, keys, with_batches=wanted.with_batches), window


def _find(wanted: Wanted) -> _Steps:
    parts = [_find_reports(wanted)]
    if wanted.with_checkpoints:
        parts.append(_find_checkpoints(wanted))
    steps = union_all(*parts).subquery()
    return select(steps.c.rank, steps.c.id, steps.c.steps, steps.c.sort)


def _find_reports(wanted: Wanted) -> _Steps:
    rank = case((_Row.group == TRAINING, 0), (_Row.group == VALIDATION, 2), else_=1)
    statement = select(
        rank.label("rank"),
        _Row.id.label("id"),
        _Row.steps.label("steps"),
        _sort_value(wanted.sort_key).label("sort"),
    ).where(_Row.trial_id == wanted.trial_id, _Row.steps.is_not(None), _Row.archived.is_(False))
    if wanted.groups is not None:
        statement = statement.where(_Row.group.in_(wanted.groups))
    return statement


def _find_checkpoints(wanted: Wanted) -> _Steps:
    row = CheckpointRow
    statement = select(
        literal(_CHECKPOINT), row.id, row.steps_completed, cast(null(), Double)
    ).where(row.trial_id == wanted.trial_id)
    if not wanted.with_deleted:
        statement = statement.where(row.state.in_(WITH_FILES))
    return statement


def _sort_value(key: str) -> ColumnElement[Any]:
    if key in _BY_STEPS:
        return cast(null(), Double)
    value = json_number(_Row.metrics, [key])
    if "." in key:
        value = func.coalesce(value, json_number(_Row.metrics, key.split(".")))
    return value


def _order(found: CTE, wanted: Wanted) -> list[ColumnElement[Any]]:
    columns = (found.c.sort, found.c.steps, found.c.rank, found.c.id)
    return [
        (column.desc() if wanted.descending else column.asc()).nulls_last() for column in columns
    ]


async def _load(
    session: AsyncSession, keys: Sequence[tuple[int, int]], *, with_batches: bool
) -> list[StoredReport | CheckpointRow]:
    reports: dict[int, StoredReport] = {}
    checkpoints: dict[int, CheckpointRow] = {}
    for start in range(0, len(keys), _BATCH):
        part = keys[start : start + _BATCH]
        ids = [row_id for rank, row_id in part if rank != _CHECKPOINT]
        reports |= await load_reports(session, ids, with_batches=with_batches)
        ids = [row_id for rank, row_id in part if rank == _CHECKPOINT]
        rows = await session.scalars(select(CheckpointRow).where(CheckpointRow.id.in_(ids)))
        checkpoints |= {row.id: row for row in rows}
    return [
        checkpoints[row_id] if rank == _CHECKPOINT else reports[row_id] for rank, row_id in keys
    ]
