"""Steps of trials in the database: found, added, completed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.trialmetrics.report import Report
from shipway_master.trialmetrics.state import Step

Key = tuple[int, str, int, int]
"""Trial, group, steps, run."""

_Row = TrialMetricRow


def key_of(report: Report) -> Key | None:
    """Name the step that *report* belongs to; None: it is one by itself."""
    if report.steps is None:
        return None
    return report.trial_id, report.group, report.steps, report.run


async def load_steps(session: AsyncSession, keys: Collection[Key]) -> dict[Key, Step]:
    """Load those steps that are there."""
    if not keys:
        return {}
    columns = tuple_(_Row.trial_id, _Row.group, _Row.steps, _Row.run)
    statement = select(
        _Row.id,
        _Row.trial_id,
        _Row.run,
        _Row.group,
        _Row.steps,
        _Row.reported_at,
        _Row.metrics,
        _Row.batch_metrics,
    ).where(columns.in_(sorted(keys)))
    found: dict[Key, Step] = {}
    for row in (await session.execute(statement)).mappings():
        step = Step(**row)
        assert step.steps is not None
        found[step.trial_id, step.group, step.steps, step.run] = step
    return found


async def write_steps(
    session: AsyncSession, steps: Sequence[Step], *, needs_id: Callable[[Step], bool]
) -> None:
    """Add new steps and complete changed ones; those of the new that *needs_id* get their id."""
    changed = [
        {"id": step.id, "metrics": step.metrics, "batch_metrics": step.batch_metrics}
        for step in steps
        if step.is_changed and step.id is not None
    ]
    new = [step for step in steps if step.id is None]
    awaited = [step for step in new if needs_id(step)]
    if awaited:
        statement = insert(_Row).returning(_Row.id, sort_by_parameter_order=True)
        ids = await session.scalars(statement, [_to_row(step) for step in awaited])
        for step, step_id in zip(awaited, ids, strict=True):
            step.id = step_id
    plain = [_to_row(step) for step in new if step.id is None]
    if plain:
        await session.execute(insert(_Row), plain)
    if changed:
        await session.execute(update(_Row), changed)


def _to_row(step: Step) -> dict[str, Any]:
    return {
        "trial_id": step.trial_id,
        "run": step.run,
        "group": step.group,
        "steps": step.steps,
        "reported_at": step.reported_at,
        "metrics": step.metrics,
        "batch_metrics": step.batch_metrics,
        "archived": False,
    }
