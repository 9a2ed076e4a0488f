"""Pages of lists that are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from shipway_master.errors import InvalidArgument
from shipway_proto.determined.api.v1.pagination_pb2 import Pagination

Item = TypeVar("Item")


def cut_page(items: Sequence[Item], *, offset: int, limit: int) -> tuple[list[Item], Pagination]:
    """Cut the page of *items* that a request asks for, and say what was cut.

    Args:
        offset: Where it starts; a negative one counts from the end.
        limit: How many at most; 0 and below mean all.

    Raises:
        InvalidArgument: The offset lies outside.
    """
    total = len(items)
    start = offset if offset >= 0 else total + offset
    if not 0 <= start <= total:
        raise InvalidArgument("offset out of bounds")
    end = total if limit <= 0 else min(total, start + limit)
    pagination = Pagination(
        offset=offset, limit=limit, start_index=start, end_index=end, total=total
    )
    return list(items[start:end]), pagination
