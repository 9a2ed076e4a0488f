"""Jobs: the queue as people see it."""

from __future__ import annotations

from collections.abc import Sequence

from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_job
from shipway_proto.determined.api.v1.job_pb2 import (
    GetJobsRequest,
    GetJobsResponse,
    GetJobsV2Request,
    GetJobsV2Response,
)
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC, OrderBy
from shipway_proto.determined.job.v1 import job_pb2

_DEFAULT_LIMIT = 100


class JobService:
    """The RPCs of the job queue."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def GetJobs(self, request: GetJobsRequest, call: Call) -> GetJobsResponse:
        """List the jobs that live."""
        jobs = await self._list(request.resource_pool, request.states, request.order_by)
        page, pagination = cut_page(
            jobs, offset=request.offset, limit=request.limit or _DEFAULT_LIMIT
        )
        return GetJobsResponse(jobs=page, pagination=pagination)

    async def GetJobsV2(self, request: GetJobsV2Request, call: Call) -> GetJobsV2Response:
        """List the jobs that live, each in full: every user may see all of them."""
        jobs = await self._list(request.resource_pool, request.states, request.order_by)
        page, pagination = cut_page(
            jobs, offset=request.offset, limit=request.limit or _DEFAULT_LIMIT
        )
        return GetJobsV2Response(
            jobs=[job_pb2.RBACJob(full=job) for job in page], pagination=pagination
        )

    async def _list(
        self,
        pool: str,
        states: Sequence[job_pb2.State.ValueType],
        order: OrderBy.ValueType,
    ) -> list[job_pb2.Job]:
        records = [one for one in self._tasks.list_open() if pool in ("", one.pool)]
        owners = await self._tasks.owners.load({one.owner_id for one in records})
        jobs = [
            view_job(one, owners[one.owner_id], self._tasks.find_run(one.task_id))
            for one in records
        ]
        jobs = [job for job in jobs if not states or job.summary.state in states]
        jobs.sort(key=_queue_place, reverse=order == ORDER_BY_DESC)
        return jobs


def _queue_place(job: job_pb2.Job) -> tuple[bool, int, int, str]:
    """Who has resources comes first, then by priority and time of submission."""
    waits = job.summary.state != job_pb2.STATE_SCHEDULED
    return waits, job.priority, job.submission_time.ToNanoseconds(), job.job_id
