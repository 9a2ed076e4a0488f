"""How much of the cluster who has used."""

from __future__ import annotations

from shipway_master.errors import InvalidArgument
from shipway_master.rpc import Call
from shipway_master.store.database import Database
from shipway_master.times import to_datetime
from shipway_master.usage import load_runs, parse_periods, sum_up
from shipway_master.usage.tables import kind_of
from shipway_proto.determined.api.v1.master_pb2 import (
    ResourceAllocationAggregatedRequest,
    ResourceAllocationAggregatedResponse,
    ResourceAllocationRawRequest,
    ResourceAllocationRawResponse,
)
from shipway_proto.determined.master.v1.master_pb2 import (
    RESOURCE_ALLOCATION_AGGREGATION_PERIOD_DAILY,
    RESOURCE_ALLOCATION_AGGREGATION_PERIOD_MONTHLY,
    ResourceAllocationAggregatedEntry,
    ResourceAllocationRawEntry,
)

_PERIODS = (
    RESOURCE_ALLOCATION_AGGREGATION_PERIOD_DAILY,
    RESOURCE_ALLOCATION_AGGREGATION_PERIOD_MONTHLY,
)


class UsageService:
    """The RPCs of recorded use; every user may read it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def ResourceAllocationRaw(
        self, request: ResourceAllocationRawRequest, call: Call
    ) -> ResourceAllocationRawResponse:
        """List the runs between two moments."""
        if not (request.HasField("timestamp_after") and request.HasField("timestamp_before")):
            raise InvalidArgument("timestamp_after and timestamp_before are needed")
        after, before = to_datetime(request.timestamp_after), to_datetime(request.timestamp_before)
        answer = ResourceAllocationRawResponse()
        async for page in load_runs(self._database, after, before):
            for run in page:
                entry = ResourceAllocationRawEntry(
                    kind=kind_of(run),
                    username=run.username,
                    user_id=run.user_id,
                    seconds=run.slot_seconds,
                    slots=run.slots,
                )
                entry.start_time.FromDatetime(run.began_at)
                entry.end_time.FromDatetime(run.ended_at)
                answer.resource_entries.append(entry)
        return answer

    async def ResourceAllocationAggregated(
        self, request: ResourceAllocationAggregatedRequest, call: Call
    ) -> ResourceAllocationAggregatedResponse:
        """Sum up the slot-seconds of days or months."""
        if request.period not in _PERIODS:
            raise InvalidArgument("period must be DAILY or MONTHLY")
        periods = parse_periods(
            request.start_date,
            request.end_date,
            is_monthly=request.period == RESOURCE_ALLOCATION_AGGREGATION_PERIOD_MONTHLY,
        )
        pages = load_runs(self._database, periods[0].begin, periods[-1].end)
        return ResourceAllocationAggregatedResponse(
            resource_entries=[
                ResourceAllocationAggregatedEntry(
                    period_start=one.period.name,
                    period=request.period,
                    seconds=one.total,
                    by_username=one.by_username,
                    by_resource_pool=one.by_pool,
                )
                for one in await sum_up(pages, periods)
            ]
        )
