"""What the relay does itself with the calls of its jobs, whichever way they come."""

from __future__ import annotations

from shipway_launcher.relay.errors import BadRequest
from shipway_launcher.relay.gathering import Answer
from shipway_launcher.relay.jobs import Job, Jobs
from shipway_launcher.relay.journal import Message
from shipway_launcher.relay.master import Metadata
from shipway_launcher.relay.messages import POST_METRICS, stamp_lines
from shipway_launcher.relay.signals import put_allocation_signal
from shipway_launcher.relay.spool import Spool
from shipway_launcher.relay.stream import Stream
from shipway_launcher.relay.streamfile import Owner
from shipway_proto.determined.api.v1 import task_pb2 as api_task
from shipway_proto.determined.api.v1 import trial_pb2 as api_trial
from shipway_proto.determined.task.v1.task_pb2 import TaskLog


class Calls:
    """The calls that the relay answers for its own jobs; all others are the master's to judge."""

    def __init__(self, spool: Spool, jobs: Jobs) -> None:
        self._spool, self._jobs = spool, jobs

    def find_job(self, metadata: Metadata) -> Job | None:
        """Return the job that a call comes from; None: it is for the master to say who that is."""
        return self._jobs.find(metadata)

    async def post_logs(
        self, job: Job, metadata: Metadata, request: api_task.PostTaskLogsRequest
    ) -> None:
        """Take log lines to disk.

        Raises:
            RelayError: They were not taken; says why.
        """
        if not request.logs:
            raise BadRequest("logs: must be a list of at least one line")
        for line in request.logs:
            job.check_line(line.task_id, line.allocation_id)
        stamp_lines(request)
        stream = await self._stream(job, metadata)
        await stream.put_logs(request)

    async def post_metrics(
        self, job: Job, metadata: Metadata, request: api_trial.PostTrialProfilerMetricsBatchRequest
    ) -> None:
        """Take readings to disk; errors as of `post_logs`."""
        for batch in request.batches:
            job.check_trial(batch.labels.trial_id)
        if request.batches:
            stream = await self._stream(job, metadata)
            await stream.put_metrics(Message(rpc=POST_METRICS, request=request.SerializeToString()))

    async def signal(self, job: Job, metadata: Metadata, rpc: str, allocation_id: str) -> None:
        """Take one of `SIGNALS` to disk; errors as of `post_logs`."""
        job.check_allocation(allocation_id)
        await self._jobs.note_use(job)
        await put_allocation_signal(self._spool, _owner(job, metadata), rpc)

    async def notify_running(
        self, job: Job, metadata: Metadata, notice: api_trial.NotifyContainerRunningRequest
    ) -> None:
        """Take to disk that a rank runs; errors as of `post_logs`."""
        job.check_allocation(notice.allocation_id)
        stream = await self._stream(job, metadata)
        await stream.put_running(notice)

    async def all_gather(
        self, job: Job, metadata: Metadata, request: api_trial.AllocationAllGatherRequest
    ) -> Answer:
        """Wait for all peers; cancelling the call takes the peer out.

        Raises:
            RelayError: There will be no answer; says why.
        """
        job.check_allocation(request.allocation_id)
        stream = await self._stream(job, metadata)
        return await stream.gather(request)

    async def newest_line(self, job: Job, metadata: Metadata, container_id: str) -> TaskLog | None:
        """Return the newest line that was taken from a container; None: the master may know."""
        stream = await self._stream(job, metadata)
        return await stream.find_newest(container_id)

    async def _stream(self, job: Job, metadata: Metadata) -> Stream:
        await self._jobs.note_use(job)
        return await self._spool.stream(_owner(job, metadata))


def _owner(job: Job, metadata: Metadata) -> Owner:
    [(_, token)] = metadata
    # In whatever header the token came: one job has one stream.
    return Owner(
        allocation_id=job.allocation_id,
        metadata=(("x-allocation-token", token),),
        task_id=job.task_id,
    )
