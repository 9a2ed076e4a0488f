"""Readings of GPUs, CPUs and the like: stored in batches, read series by series, followed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, insert, select

from shipway_master.changes import Changes
from shipway_master.store.database import Database
from shipway_master.store.experiments import TrialRow
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

    def __init__(
        self, database: Database, *, look_every_s: float = 2.0, settle_s: float = 1.0
    ) -> None:
        """Keep the batches in *database*.

        Args:
            look_every_s: How often those who follow a trial look whether it has ended, in seconds.
            settle_s: How long after that end readings may still come, in seconds.
        """
        self._database = database
        self._look_every_s, self._settle_s = look_every_s, settle_s
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
        """Iterate over the batches of *wanted*, with *follow* until the trial's end."""
        last = 0
        async with aclosing(self._rounds(wanted.trial_id, follow=follow)) as rounds:
            async for _ in rounds:
                while page := await self._page(wanted, last):
                    for row_id, batch in page:
                        yield batch
                        last = row_id

    async def series(self, trial_id: int, *, follow: bool) -> AsyncGenerator[list[Series]]:
        """Iterate over the list of series of a trial, with *follow* anew when there are more."""
        known: set[Series] = set()
        last, is_first = 0, True
        async with aclosing(self._rounds(trial_id, follow=follow)) as rounds:
            async for _ in rounds:
                found, last = await self._series_after(trial_id, last)
                if is_first or not found <= known:
                    known |= found
                    yield sorted(known, key=lambda one: (one.name, one.agent_id, one.gpu_uuid))
                is_first = False

    async def _rounds(self, trial_id: int, *, follow: bool) -> AsyncGenerator[None]:
        """Iterate whenever there may be more of a trial; the last time is after its end."""
        with self._changes.watch(trial_id) as watch:
            while True:
                # Asked first, so that nothing is missed that comes just before the end.
                left_s = await self._find_time_left_s(trial_id) if follow else 0
                yield
                if left_s <= 0:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left_s, self._look_every_s)):
                        await watch.changed()

    async def _find_time_left_s(self, trial_id: int) -> float:
        """Find out how long readings of a trial may still come; infinite while it runs."""
        statement = select(TrialRow.ended_at).where(TrialRow.id == trial_id)
        async with self._database.reading() as session:
            found = (await session.execute(statement)).one_or_none()
        if found is None:  # it has been deleted
            return 0
        [ended_at] = found
        if ended_at is None:
            return math.inf
        return self._settle_s - (datetime.now(UTC) - ended_at).total_seconds()

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
