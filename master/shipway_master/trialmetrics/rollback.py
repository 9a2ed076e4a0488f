"""Steps that a newer run of a trial goes over again: put away, and the sums made anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.trialmetrics import TrialMetricRow
from shipway_master.trialmetrics.facts import SearcherMetric
from shipway_master.trialmetrics.groups import VALIDATION, Kind, group_of_key, kind_of
from shipway_master.trialmetrics.state import TrialState

_PAGE_ROWS = 500
_Row = TrialMetricRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """From which step on there is nothing of older runs left, by the kind of group reported."""

    run: int
    floors: Mapping[Kind, int]

    def covers(self, kind: Kind, steps: int) -> bool:
        """Tell whether a report at *steps* finds nothing to put away."""
        floor = self.floors.get(kind)
        return floor is not None and floor <= steps


async def archive(
    session: AsyncSession,
    state: TrialState,
    floors: Mapping[Kind, int],
    metric: SearcherMetric | None,
) -> None:
    """Put away what older runs reported at steps that the present run reports now.

    Args:
        floors: The lowest step that it reports in each kind of group. Of the same kind, what is at
            that step goes too; of the others what is above it.
    """
    groups = {group_of_key(key) for key in state.summary.to_stored()}
    if not groups:
        return
    statement = (
        update(_Row)
        .where(
            _Row.trial_id == state.trial_id,
            _Row.group.in_(sorted(groups)),
            _Row.run < state.run,
            _Row.archived.is_(False),
            or_(*(_is_above(floor, kind, groups) for kind, floor in floors.items())),
        )
        .values(archived=True)
        .returning(_Row.group)
        .execution_options(synchronize_session=False)
    )
    changed = set(await session.scalars(statement))
    if changed:
        await _sum_up(session, state, changed, metric)


def _is_above(floor: int, kind: Kind, groups: Collection[str]) -> ColumnElement[bool]:
    alike = [group for group in groups if kind_of(group) is kind]
    return or_(_Row.steps > floor, and_(_Row.steps == floor, _Row.group.in_(sorted(alike))))


async def _sum_up(
    session: AsyncSession,
    state: TrialState,
    groups: Collection[str],
    metric: SearcherMetric | None,
) -> None:
    """Make the sums of *groups* anew from what is left of them."""
    state.is_changed = True
    left = and_(_Row.trial_id == state.trial_id, _Row.archived.is_(False))
    state.total_batches = await session.scalar(select(func.max(_Row.steps)).where(left)) or 0
    if VALIDATION in groups:
        state.forget_validations()
    for group in groups:
        state.summary.drop(group)
        statement = select(_Row.id, _Row.metrics).where(left, _Row.group == group)
        rows = await session.stream(statement.order_by(_Row.steps, _Row.id))
        async for page in rows.partitions(_PAGE_ROWS):  # in which others have their turn
            for row_id, metrics in page:
                state.summary.add(group, metrics)
                if group == VALIDATION and metric is not None:
                    state.judge(row_id, metrics, metric)
