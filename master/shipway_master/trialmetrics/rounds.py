"""Looking at experiments again and again while they run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass

from sqlalchemy import func, select

from shipway_master.changes import Changes
from shipway_master.errors import InvalidArgument, NotFound
from shipway_master.store.database import Database
from shipway_master.store.experiments import ExperimentRow
from shipway_master.trialmetrics.facts import SearcherMetric, read_searcher, read_searcher_metric

_PERIOD_S = 5
_LONGEST_PERIOD_S = 3600
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An experiment, as far as one who watches it must know it."""

    id: int
    searcher: str
    """The searcher's name."""
    metric: SearcherMetric | None


class Rounds:
    """Says when to look at experiments anew."""

    def __init__(self, database: Database, changes: Changes[int]) -> None:
        """Look into *database*, when *changes* tell of an experiment by its id."""
        self._database, self._changes = database, changes

    async def load(self, experiment_ids: Collection[int]) -> list[Watched]:
        """Load experiments that are to be watched.

        Raises:
            InvalidArgument: There are none, or too many.
            NotFound: There is no such experiment.
        """
        if not 1 <= len(experiment_ids) <= _AT_ONCE:
            raise InvalidArgument(f"1 to {_AT_ONCE} experiment ids are needed")
        row = ExperimentRow
        statement = select(row.id, row.config).where(row.id.in_(experiment_ids))
        async with self._database.reading() as session:
            configs = dict((await session.execute(statement)).all())
        for experiment_id in experiment_ids:
            if experiment_id not in configs:
                raise NotFound("experiment", experiment_id)
        return [
            Watched(
                id=experiment_id,
                searcher=read_searcher(config).get("name", ""),
                metric=read_searcher_metric(config),
            )
            for experiment_id, config in configs.items()
        ]

    async def go(self, experiment_ids: Collection[int], period_s: int) -> AsyncGenerator[bool]:
        """Iterate while there is a reason to look: at first, at news, and at last at the end.

        Yields:
            Whether this look is the first one.

        Args:
            period_s: The least time between two looks, in seconds; 0: the master's choice.
        """
        period_s = min(period_s, _LONGEST_PERIOD_S) if period_s > 0 else _PERIOD_S
        is_first, had_news = True, True
        with self._changes.watch(*experiment_ids) as watch:
            while True:
                are_over = await self._are_over(experiment_ids)  # asked first: nothing is missed
                if had_news or are_over:
                    yield is_first
                    is_first = False
                if are_over:
                    return
                await asyncio.sleep(period_s)
                had_news = False
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(period_s):
                        await watch.changed()
                        had_news = True

    async def _are_over(self, experiment_ids: Collection[int]) -> bool:
        row = ExperimentRow
        running = select(func.count()).where(row.id.in_(experiment_ids), row.ended_at.is_(None))
        async with self._database.reading() as session:
            return not await session.scalar(running)
