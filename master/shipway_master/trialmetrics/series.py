"""One metric over all trials of an experiment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, func, select

from shipway_master.queries.jsonvalues import json_text
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.trialmetrics.values import find_number, find_value

_PAGE_ROWS = 500
_Row = TrialMetricRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of an experiment."""

    experiment_id: int
    groups: Collection[str]
    """Where it is looked for; none at all: in every one."""
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a trial reported of it at one step."""

    trial_id: int
    steps: int
    reported_at: datetime
    number: float


async def load_steps_of(database: Database, metric: Metric) -> set[int]:
    """Load the steps at which any trial reported *metric*.

    Raises:
        InvalidArgument: Its name cannot be looked for.
    """
    value = json_text(_Row.metrics, [metric.name])
    if "." in metric.name:
        value = func.coalesce(value, json_text(_Row.metrics, metric.name.split(".")))
    statement = select(_Row.steps).where(*_conditions(metric), value.is_not(None)).distinct()
    async with database.reading() as session:
        return {steps for steps in await session.scalars(statement) if steps is not None}


async def read_values(
    database: Database,
    metric: Metric,
    *,
    where: Sequence[ColumnElement[bool]] = (),
    order: Sequence[SQLColumnExpression[Any]] = (),
) -> AsyncGenerator[Value]:
    """Iterate over what all trials reported of *metric*, where it is a number.

    The database is held meanwhile: what one does with a value must be quick.

    Args:
        where: More conditions on `TrialMetricRow`.
        order: By which columns of it they come.
    """
    columns = (_Row.trial_id, _Row.steps, _Row.reported_at, _Row.metrics)
    statement = select(*columns).where(*_conditions(metric), *where).order_by(*order)
    async with database.reading() as session:
        rows = await session.stream(statement)
        async for page in rows.partitions(_PAGE_ROWS):
            for trial_id, steps, reported_at, metrics in page:
                number = find_number(find_value(metrics, metric.name))
                if number is not None:
                    yield Value(
                        trial_id=trial_id,
                        steps=steps or 0,
                        reported_at=reported_at,
                        number=number,
                    )


def _conditions(metric: Metric) -> list[ColumnElement[bool]]:
    trials = select(TrialRow.id).where(TrialRow.experiment_id == metric.experiment_id)
    conditions: list[ColumnElement[bool]] = [
        _Row.trial_id.in_(trials),
        _Row.archived.is_(False),
        _Row.steps.is_not(None),
    ]
    if metric.groups:
        conditions.append(_Row.group.in_(sorted(metric.groups)))
    return conditions
