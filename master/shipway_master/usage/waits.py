"""How long runs waited for their resources, by day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from shipway_master.store.database import Database
from shipway_master.store.tasks import AllocationRow, TaskRow

_DAYS = 30


class QueueTimes:
    """Reads waiting times of pools."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_means(self, pool: str) -> list[tuple[str, float]]:
        """List the days of the last month (YYYY-MM-DD, UTC) on which something began in the pool.

        With each: how long what began then had waited, in seconds, on average.
        """
        since = datetime.now(UTC) - timedelta(days=_DAYS)
        statement = (
            select(AllocationRow.requested_at, AllocationRow.started_at)
            .join(TaskRow, TaskRow.task_id == AllocationRow.task_id)
            .where(TaskRow.resource_pool == pool, AllocationRow.started_at > since)
        )
        sums: dict[str, tuple[float, int]] = {}
        async with self._database.reading() as session:
            async for requested_at, started_at in await session.stream(statement):
                began_at = started_at or requested_at
                day = f"{began_at:%Y-%m-%d}"
                seconds, count = sums.get(day, (0.0, 0))
                sums[day] = seconds + (began_at - requested_at).total_seconds(), count + 1
        return [(day, seconds / count) for day, (seconds, count) in sorted(sums.items())]
