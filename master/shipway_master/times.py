"""Moments in messages."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from shipway_master.errors import InvalidArgument
from shipway_master.store.base import microseconds

_FIRST_S = microseconds(datetime(1, 1, 1, tzinfo=UTC)) // 1_000_000
_LAST_S = microseconds(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)) // 1_000_000


def to_datetime(stamp: Timestamp) -> datetime:
    """Turn *stamp* into a time of ours, to the microsecond.

    Raises:
        InvalidArgument: It lies outside of the years 1 to 9999, or its nanoseconds are none.
    """
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        problem = f"timestamp out of range: {stamp.seconds} s, {stamp.nanos} ns"
        raise InvalidArgument(problem) from error


def to_microseconds(stamp: Timestamp) -> int:
    """Count the microseconds from 1970 to *stamp*; raises as `to_datetime`."""
    if _FIRST_S <= stamp.seconds <= _LAST_S and 0 <= stamp.nanos < 1_000_000_000:
        return stamp.seconds * 1_000_000 + stamp.nanos // 1000
    return microseconds(to_datetime(stamp))
