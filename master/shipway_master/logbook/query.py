"""Which lines somebody wants to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select

from shipway_master.store.base import microseconds
from shipway_master.store.logs import TaskLogRow


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines are wanted; an empty list does not filter."""

    task_id: str
    allocation_ids: Sequence[str] = ()
    agent_ids: Sequence[str] = ()
    container_ids: Sequence[str] = ()
    rank_ids: Sequence[int] = ()
    levels: Sequence[int] = ()
    stdtypes: Sequence[str] = ()
    sources: Sequence[str] = ()
    before: datetime | None = None
    after: datetime | None = None
    search: str = ""
    """Text that the lines contain."""
    newest_first: bool = False


def page_of(query: LogQuery, *, after: int, until: int, count: int) -> Select[Any]:
    """Build the statement for the first *count* lines with ids in (after, until]."""
    columns = TaskLogRow.__table__.c
    conditions = [columns.task_id == query.task_id, columns.id > after, columns.id <= until]
    for column, wanted in (
        (columns.allocation_id, query.allocation_ids),
        (columns.agent_id, query.agent_ids),
        (columns.container_id, query.container_ids),
        (columns.rank_id, query.rank_ids),
        (columns.level, query.levels),
        (columns.stdtype, query.stdtypes),
        (columns.source, query.sources),
    ):
        if wanted:
            conditions.append(column.in_(wanted))
    if query.before is not None:
        conditions.append(columns.timestamp_us < microseconds(query.before))
    if query.after is not None:
        conditions.append(columns.timestamp_us > microseconds(query.after))
    order = columns.id.desc() if query.newest_first else columns.id
    return select(TaskLogRow.__table__).where(*conditions).order_by(order).limit(count)
