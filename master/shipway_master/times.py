"""Moments in messages."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from shipway_master.errors import InvalidArgument


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
