"""Pages of what the database finds: only the rows that are shown are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, func
from sqlalchemy.ext.asyncio import AsyncSession

from shipway_master.pages import find_window
from shipway_proto.determined.api.v1.pagination_pb2 import Pagination


async def load_page(
    session: AsyncSession, found: Select[*tuple[Any, ...]], *, offset: int, limit: int
) -> tuple[Sequence[Row[*tuple[Any, ...]]], Pagination]:
    """Read a page of *found*, which says the order, by the rules of long lists."""
    counted = found.order_by(None).with_only_columns(func.count(), maintain_column_froms=True)
    total = (await session.execute(counted)).scalar_one()
    window = find_window(total, offset=offset, limit=limit)
    count = window.end_index - window.start_index
    if count == 0:
        return [], window
    page = found.offset(window.start_index).limit(count)
    return (await session.execute(page)).all(), window
