"""Checkpoints of a trial or an experiment: chosen, put in order, and cut into pages."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.checkpoints.measured import (
    VALIDATION,
    load_measured,
    measure,
)
from shipway_master.checkpoints.records import Found, load_found
from shipway_master.pages import cut_page
from shipway_master.store.checkpoints import CheckpointRow
from shipway_master.store.experiments import TrialRow
from shipway_master.trialmetrics.facts import SearcherMetric
from shipway_proto.determined.api.v1.pagination_pb2 import (
    ORDER_BY_DESC,
    ORDER_BY_UNSPECIFIED,
    Pagination,
)
from shipway_proto.determined.checkpoint.v1 import checkpoint_pb2 as proto


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What of a list somebody asks for."""

    metric: str
    """By which validation metric to sort; empty: by the attribute."""
    attribute: int
    order: int
    states: Collection[str]
    """Empty: all of them."""
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class _Light:
    """What lists are sorted by."""

    id: int
    uuid: str
    trial_id: int
    steps: int
    reported_at: datetime
    state: str


_KEYS: Final[dict[int, Callable[[_Light], Any]]] = {
    proto.SORT_BY_UUID: lambda one: one.uuid,
    proto.SORT_BY_TRIAL_ID: lambda one: one.trial_id,
    proto.SORT_BY_BATCH_NUMBER: lambda one: one.steps,
    proto.SORT_BY_END_TIME: lambda one: one.reported_at,
    proto.SORT_BY_STATE: lambda one: proto.State.Value(f"STATE_{one.state}"),
}


async def load_list(
    session: AsyncSession,
    of: ColumnElement[bool],
    wanted: Wanted,
    judged_by: SearcherMetric | None,
) -> tuple[list[Found], Pagination]:
    """Load a page of checkpoints.

    Args:
        of: The condition on trials or checkpoints that says whose.
        judged_by: The metric of their experiment.

    Raises:
        InvalidArgument: The page lies outside.
    """
    statement = (
        select(
            CheckpointRow.id,
            CheckpointRow.uuid,
            CheckpointRow.trial_id,
            CheckpointRow.steps_completed,
            CheckpointRow.reported_at,
            CheckpointRow.state,
        )
        .join(TrialRow, TrialRow.id == CheckpointRow.trial_id)
        .where(of)
        .order_by(CheckpointRow.id)
    )
    if wanted.states:
        statement = statement.where(CheckpointRow.state.in_(wanted.states))
    lights = [_Light(*row) for row in await session.execute(statement)]
    metric = wanted.metric
    if wanted.attribute == proto.SORT_BY_SEARCHER_METRIC and judged_by is not None:
        metric = judged_by.name
    if metric:
        if wanted.order == ORDER_BY_UNSPECIFIED:  # the better ones first
            is_reversed = judged_by is not None and not judged_by.smaller_is_better
        else:
            is_reversed = wanted.order == ORDER_BY_DESC
        lights = await _sort_by_metric(session, lights, metric, is_reversed=is_reversed)
    else:
        key = _KEYS.get(wanted.attribute, _get_id)
        is_reversed = wanted.order == ORDER_BY_DESC
        lights.sort(key=lambda one: (key(one), one.id), reverse=is_reversed)
    page, pagination = cut_page(lights, offset=wanted.offset, limit=wanted.limit)
    return await load_found(session, [one.uuid for one in page]), pagination


def _get_id(one: _Light) -> int:
    return one.id


async def _sort_by_metric(
    session: AsyncSession, lights: list[_Light], metric: str, *, is_reversed: bool
) -> list[_Light]:
    """Those without a value come last, whatever the order."""
    measured = await load_measured(session, [one.id for one in lights], [VALIDATION])
    found = {key: measure(metric, its.validation) for key, its in measured.items()}
    values = {key: value for key, value in found.items() if value is not None}
    with_value = [one for one in lights if one.id in values]
    with_value.sort(key=lambda one: values[one.id], reverse=is_reversed)
    return with_value + [one for one in lights if one.id not in values]
