"""Readings of GPUs, CPUs and the like: stored in batches, read series by series, followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, select

from shipway_master.changes import Changes
from shipway_master.store.database import Database
from shipway_master.store.profiler import ProfilerBatchRow

_PAGE_BATCHES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The labels of a series; in a query an empty one (0 for the type) means any."""

    trial_id: int
    name: str
    agent_id: str
    gpu_uuid: str
    metric_type: int


class Readings:
    """All profiler batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changes: Changes[int] = Changes()
        self._turn = asyncio.Lock()

    async def append(self, batches: Sequence[tuple[Series, bytes]]) -> None:
        """Store serialized batches, each with its series, and return when they are safe."""
        if not batches:
            return
        rows = [
            {
                "trial_id": series.trial_id,
                "name": series.name,
                "agent_id": series.agent_id,
                "gpu_uuid": series.gpu_uuid,
                "metric_type": series.metric_type,
                "batch": batch,
            }
            for series, batch in batches
        ]
        # One after the other: were a lower id committed after a higher one, as PostgreSQL may do
        # it, those who follow would pass it over.
        async with self._turn, self._database.writing() as session:
            await session.execute(insert(ProfilerBatchRow), rows)
        for trial_id in {series.trial_id for series, _ in batches}:
            self._changes.announce(trial_id)

    async def read(self, wanted: Series, *, follow: bool) -> AsyncGenerator[bytes]:
        """Iterate over the batches of *wanted*, with *follow* over the coming ones too."""
        last = 0
        with self._changes.watch(wanted.trial_id) as watch:
            while True:
                while page := await self._page(wanted, last):
                    for row_id, batch in page:
                        yield batch
                        last = row_id
                if not follow:
                    return
                await watch.changed()

    async def series(self, trial_id: int, *, follow: bool) -> AsyncGenerator[list[Series]]:
        """Iterate over the list of series that *trial_id* has, anew when there are more."""
        known: set[Series] = set()
        last, is_first = 0, True
        with self._changes.watch(trial_id) as watch:
            while True:
                found, last = await self._series_after(trial_id, last)
                if is_first or not found <= known:
                    known |= found
                    yield sorted(known, key=lambda one: (one.name, one.agent_id, one.gpu_uuid))
                is_first = False
                if not follow:
                    return
                await watch.changed()

    async def _page(self, wanted: Series, after: int) -> list[tuple[int, bytes]]:
        row = ProfilerBatchRow
        conditions = [row.trial_id == wanted.trial_id, row.id > after]
        for column, value in (
            (row.name, wanted.name),
            (row.agent_id, wanted.agent_id),
            (row.gpu_uuid, wanted.gpu_uuid),
            (row.metric_type, wanted.metric_type),
        ):
            if value:
                conditions.append(column == value)
        statement = select(row.id, row.batch).where(*conditions).order_by(row.id)
        async with self._database.reading() as session:
            found = await session.execute(statement.limit(_PAGE_BATCHES))
            return [(row_id, batch) for row_id, batch in found]

    async def _series_after(self, trial_id: int, after: int) -> tuple[set[Series], int]:
        row = ProfilerBatchRow
        columns = (row.name, row.agent_id, row.gpu_uuid, row.metric_type)
        statement = (
            select(*columns, func.max(row.id))
            .where(row.trial_id == trial_id, row.id > after)
            .group_by(*columns)
        )
        found: set[Series] = set()
        async with self._database.reading() as session:
            for name, agent_id, gpu_uuid, metric_type, newest in await session.execute(statement):
                found.add(
                    Series(
                        trial_id=trial_id,
                        name=name,
                        agent_id=agent_id,
                        gpu_uuid=gpu_uuid,
                        metric_type=metric_type,
                    )
                )
                after = max(after, newest)
        return found, after
