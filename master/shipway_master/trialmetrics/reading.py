"""Stored reports, read in order however many there are."""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.store.database import Database
from shipway_master.store.trialmetrics import TrialMetricRow

_PAGE_ROWS = 500
_IDS_AT_ONCE = 5000
_Row = TrialMetricRow


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """What was reported in one group at one step."""

    id: int
    trial_id: int
    run: int
    group: str
    steps: int | None
    reported_at: datetime
    metrics: dict[str, Any]
    batch_metrics: list[Any] | None = None


class StoredMetrics:
    """The reports of all trials, without archived ones."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(
        self,
        trial_id: int,
        *,
        groups: Collection[str] = (),
        where: Sequence[ColumnElement[bool]] = (),
        with_batches: bool = False,
    ) -> AsyncGenerator[list[StoredReport]]:
        """Iterate over the reports of a trial by their steps, some at a time; last those without.

        A slow reader holds nothing up: what he reads was there when he began, or came to it since.

        Args:
            groups: None given means all.
            where: Conditions on `TrialMetricRow`.
            with_batches: Whether metrics per batch are wanted too, which may be big.
        """
        conditions = [_Row.trial_id == trial_id, _Row.archived.is_(False), *where]
        if groups:
            conditions.append(_Row.group.in_(sorted(groups)))
        ids = await self._load_ids(conditions)
        for start in range(0, len(ids), _PAGE_ROWS):
            yield await self._load(ids[start : start + _PAGE_ROWS], with_batches=with_batches)

    async def _load_ids(self, conditions: Sequence[ColumnElement[bool]]) -> array[int]:
        order = (_Row.steps.is_(None), _Row.steps, _Row.id)
        ids = array("q")
        async with self._database.reading() as session:
            found = await session.stream_scalars(
                select(_Row.id).where(*conditions).order_by(*order)
            )
            async for some in found.partitions(_IDS_AT_ONCE):
                ids.extend(some)
        return ids

    async def _load(self, ids: Sequence[int], *, with_batches: bool) -> list[StoredReport]:
        async with self._database.reading() as session:
            found = await load_reports(session, ids, with_batches=with_batches)
        return [found[one] for one in ids if one in found]


async def load_reports(
    session: AsyncSession, ids: Sequence[int], *, with_batches: bool = False
) -> dict[int, StoredReport]:
    """Load reports by their ids; those that are not there are left out."""
    columns = [
        _Row.id,
        _Row.trial_id,
        _Row.run,
        _Row.group,
        _Row.steps,
        _Row.reported_at,
        _Row.metrics,
    ]
    statement = select(*columns, *([_Row.batch_metrics] if with_batches else []))
    rows = await session.execute(statement.where(_Row.id.in_(list(ids))))
    return {row["id"]: StoredReport(**row) for row in rows.mappings()}
