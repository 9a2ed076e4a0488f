"""Names of the metrics that were reported, from the summaries of trials."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select

from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
from shipway_master.trialmetrics.groups import group_of_key


@dataclass(frozen=True, slots=True, order=True)
class MetricName:
    """A metric's full name."""

    group: str
    name: str


async def load_names(database: Database, experiment_ids: Collection[int]) -> set[MetricName]:
    """Load the names of all metrics that trials of some experiments reported."""
    statement = select(TrialRow.summary_metrics).where(TrialRow.experiment_id.in_(experiment_ids))
    names: set[MetricName] = set()
    async with database.reading() as session:
        async for page in (await session.stream_scalars(statement)).partitions(100):
            for summary in page:
                for key, metrics in summary.items():
                    group = group_of_key(key)
                    names.update(MetricName(group, name) for name in metrics)
    return names
