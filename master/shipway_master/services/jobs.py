"""Jobs: the queue as people see it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol, TypeVar

from shipway_master.allocations.ids import JobId
from shipway_master.cluster.cluster import Cluster
from shipway_master.errors import NotFound
from shipway_master.experiments.changes import ExperimentChanges
from shipway_master.experiments.experiments import Experiments
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.services.told import told
from shipway_master.tasks.errors import BadTask
from shipway_master.tasks.owners import Owner
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.views import view_job
from shipway_master.usage.waits import QueueTimes
from shipway_proto.determined.api.v1.job_pb2 import (
    GetJobQueueStatsRequest,
    GetJobQueueStatsResponse,
    GetJobsRequest,
    GetJobsResponse,
    GetJobsV2Request,
    GetJobsV2Response,
    UpdateJobQueueRequest,
    UpdateJobQueueResponse,
)
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC, OrderBy
from shipway_proto.determined.job.v1 import job_pb2

_DEFAULT_LIMIT = 100
Item = TypeVar("Item", contravariant=True)


class JobService:
    """The RPCs of the job queue."""

    def __init__(
        self,
        tasks: Tasks,
        places: Places,
        cluster: Cluster,
        waits: QueueTimes,
        *,
        experiments: Experiments,
        changes: ExperimentChanges,
    ) -> None:
        self._tasks, self._places, self._cluster = tasks, places, cluster
        self._waits = waits
        self._experiments, self._changes = experiments, changes

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

    async def UpdateJobQueue(
        self, request: UpdateJobQueueRequest, call: Call
    ) -> UpdateJobQueueResponse:
        """Change places in the queues, one after the other up to the first that cannot be."""
        for update in request.updates:
            with told():
                experiment = self._experiments.find_by_job(update.job_id)
                if experiment is not None:
                    call.principal.require_owner_or_admin(experiment.record.owner_id)
                    await _update(self._changes, experiment.record, update)
                else:
                    task = self._tasks.find_by_job(update.job_id)
                    call.principal.require_owner_or_admin(task.owner_id)
                    await _update(self._places, task, update)
        return UpdateJobQueueResponse()

    async def GetJobQueueStats(
        self, request: GetJobQueueStatsRequest, call: Call
    ) -> GetJobQueueStatsResponse:
        """Tell how many jobs of each pool wait and run, and how long they waited of late."""
        pools = {pool.name: pool for pool in self._cluster.list_pools()}
        for name in request.resource_pools:
            if name not in pools:
                raise NotFound("resource pool", name)
        answer = GetJobQueueStatsResponse()
        for name in request.resource_pools or pools:
            means = await self._waits.load_means(name)
            answer.results.add(
                stats=pools[name].stats,
                resource_pool=name,
                aggregates=[
                    job_pb2.AggregateQueueStats(period_start=day, seconds=seconds)
                    for day, seconds in means
                ],
            )
        return answer

    async def _list(
        self,
        pool: str,
        states: Sequence[job_pb2.State.ValueType],
        order: OrderBy.ValueType,
    ) -> list[job_pb2.Job]:
        records = [one for one in self._tasks.list_open() if pool in ("", one.pool)]
        owners = await self._tasks.owners.load(records)
        by_job: defaultdict[JobId, list[TaskRecord]] = defaultdict(list)
        for record in records:
            by_job[record.job_id].append(record)
        owner_of = {record.job_id: owner for record, owner in zip(records, owners, strict=True)}
        jobs = [self._view(its, owner_of[job_id]) for job_id, its in by_job.items()]
        jobs = [job for job in jobs if not states or job.summary.state in states]
        jobs.sort(key=_queue_place, reverse=order == ORDER_BY_DESC)
        return jobs

    def _view(self, records: Sequence[TaskRecord], owner: Owner) -> job_pb2.Job:
        job = view_job([(one, self._tasks.find_run(one.task_id)) for one in records], owner)
        experiment = self._experiments.find_by_job(job.job_id)
        if experiment is not None:
            job.entity_id, job.name = str(experiment.record.id), experiment.record.name
        return job


class _Movable(Protocol[Item]):
    """What changes the places of jobs of one kind."""

    async def set_priority(self, record: Item, priority: int, /) -> None:
        """Serve it before or after others."""
        ...

    async def set_weight(self, record: Item, weight: float, /) -> None:
        """Give it a larger or smaller share."""
        ...

    async def move(self, record: Item, pool: str, /) -> None:
        """Let it wait in another pool."""
        ...


async def _update(places: _Movable[Item], record: Item, update: job_pb2.QueueControl) -> None:
    match update.WhichOneof("action"):
        case "priority":
            await places.set_priority(record, update.priority)
        case "weight":
            await places.set_weight(record, update.weight)
        case "resource_pool":
            await places.move(record, update.resource_pool)
        case _:
            raise BadTask(
                f"job {update.job_id}: give a priority, a weight or a resource_pool; "
                "places before or behind another job are not supported"
            )


def _queue_place(job: job_pb2.Job) -> tuple[bool, int, int, str]:
    """Who has resources comes first, then by priority and time of submission."""
    waits = job.summary.state != job_pb2.STATE_SCHEDULED
    return waits, job.priority, job.submission_time.ToNanoseconds(), job.job_id
