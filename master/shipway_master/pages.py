"""Pages of lists that are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from shipway_master.errors import InvalidArgument
from shipway_proto.determined.api.v1.pagination_pb2 import Pagination

Item = TypeVar("Item")

_STORED_PAGE = 100


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


def cut_stored_page(
    items: Sequence[Item], *, offset: int, limit: int
) -> tuple[list[Item], Pagination]:
    """Cut a page by the rules of those lists that may be very long.

    Args:
        offset: As `cut_page` has it, but outside of the list it gives an empty page.
        limit: How many at most; 0: 100, -1: all, -2: none, only their number.
    """
    window = find_window(len(items), offset=offset, limit=limit)
    return list(items[window.start_index : window.end_index]), window


def find_window(total: int, *, offset: int, limit: int) -> Pagination:
    """Say which of *total* items a page has, by the rules of `cut_stored_page`."""
    start = min(offset if offset >= 0 else max(total + offset, 0), total)
    count = {0: _STORED_PAGE, -1: total, -2: 0}.get(limit, max(limit, 0))
    end = min(total, start + count)
    return Pagination(offset=offset, limit=limit, start_index=start, end_index=end, total=total)
