"""Between which values the metrics of a project lie, from the summaries of its trials."""

from __future__ import annotations

import math

from sqlalchemy import select

from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.trialmetrics.groups import group_of_key
from shipway_master.trialmetrics.names import MetricName
from shipway_master.trialmetrics.values import find_number

_PAGE_ROWS = 100


async def load_extremes(
    database: Database, project_id: int
) -> dict[MetricName, tuple[float, float]]:
    """Load the smallest and the largest value of each metric that is a number."""
    statement = select(TrialRow.summary_metrics).where(TrialRow.project_id == project_id)
    found: dict[MetricName, tuple[float, float]] = {}
    async with database.reading() as session:
        async for page in (await session.stream_scalars(statement)).partitions(_PAGE_ROWS):
            for summary in page:
                for key, metrics in summary.items():
                    group = group_of_key(key)
                    for name, entry in metrics.items():
                        low, high = find_number(entry.get("min")), find_number(entry.get("max"))
                        if low is not None and high is not None:
                            metric = MetricName(group, name)
                            found[metric] = _join(found.get(metric), low, high)
    return found


def _join(known: tuple[float, float] | None, low: float, high: float) -> tuple[float, float]:
    if known is None or math.isnan(known[0]):
        return low, high
    if math.isnan(low):
        return known
    return min(known[0], low), max(known[1], high)
