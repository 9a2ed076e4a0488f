"""What administrators tell all users of the cluster."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete

from shipway_master.durations import parse_duration
from shipway_master.errors import InvalidArgument
from shipway_master.store.cluster import ClusterMessageRow
from shipway_master.store.database import Database
from shipway_master.times import to_datetime
from shipway_proto.determined.api.v1.master_pb2 import ClusterMessage, SetClusterMessageRequest

_ONLY_ROW = 1
_LONGEST = 250
"""In characters: clients print it before the output of a command."""


class ClusterNotice:
    """The message, at most one, in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stored(self) -> ClusterMessage | None:
        """Read the message, whether it is time for it or not; None: there is none."""
        row = await self._row()
        return None if row is None else _message(row)

    async def current(self) -> ClusterMessage | None:
        """Read the message that is to be shown now."""
        row, now = await self._row(), datetime.now(UTC)
        if row is None or row.starts_at > now or (row.ends_at is not None and row.ends_at <= now):
            return None
        return _message(row)

    async def set(self, request: SetClusterMessageRequest) -> None:
        """Replace the message.

        Raises:
            InvalidArgument: It is empty or too long, or its times do not fit together.
        """
        if not request.message or len(request.message) > _LONGEST:
            raise InvalidArgument(f"a cluster message has 1 to {_LONGEST} characters")
        starts_at = (
            to_datetime(request.start_time) if request.HasField("start_time") else datetime.now(UTC)
        )
        row = ClusterMessageRow(
            id=_ONLY_ROW,
            message=request.message,
            starts_at=starts_at,
            ends_at=_end(request, starts_at),
            created_at=datetime.now(UTC),
        )
        async with self._database.writing() as session:
            await session.merge(row)

    async def delete(self) -> None:
        """Remove the message, if there is one."""
        async with self._database.writing() as session:
            await session.execute(delete(ClusterMessageRow))

    async def _row(self) -> ClusterMessageRow | None:
        async with self._database.reading() as session:
            return await session.get(ClusterMessageRow, _ONLY_ROW)


def _end(request: SetClusterMessageRequest, starts_at: datetime) -> datetime | None:
    has_end, has_duration = request.HasField("end_time"), request.HasField("duration")
    if has_end and has_duration:
        raise InvalidArgument("give endTime or duration, not both")
    if not has_end and not has_duration:
        return None
    try:
        ends_at = (
            to_datetime(request.end_time)
            if has_end
            else starts_at + parse_duration(request.duration)
        )
    except OverflowError as error:
        raise InvalidArgument("the message ends too far in the future") from error
    if ends_at <= max(starts_at, datetime.now(UTC)):
        raise InvalidArgument("the message would end before it is shown")
    return ends_at


def _message(row: ClusterMessageRow) -> ClusterMessage:
    message = ClusterMessage(message=row.message)
    message.start_time.FromDatetime(row.starts_at)
    message.created_time.FromDatetime(row.created_at)
    if row.ends_at is not None:
        message.end_time.FromDatetime(row.ends_at)
    return message
