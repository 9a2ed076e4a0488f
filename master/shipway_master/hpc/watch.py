"""One pass over all watched jobs: one question for all, and one more for each in doubt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from shipway_master.allocations.exits import Failure, FailureType
from shipway_master.allocations.life import ResourcesState
from shipway_master.cluster.manager import Change
from shipway_master.errors import Unavailable
from shipway_master.hpc.client import LauncherClient
from shipway_master.hpc.dispatch import Dispatch, note_reason
from shipway_master.hpc.endings import explain, make_change
from shipway_master.hpc.errors import DispatchNotFound, LauncherError, LauncherUnreadable
from shipway_master.hpc.reading import (
    DispatchState,
    DispatchStatus,
    QueuedJob,
    UnreadableAnswer,
    cut_queue,
    parse_queue,
)
from shipway_master.hpc.records import DispatchRecords

log = logging.getLogger(__name__)

_AT_ONCE = 8

Finish = Callable[[Dispatch, Change], Awaitable[None]]


class Watch:
    """Asks after jobs, and tells their allocations what it hears."""

    def __init__(self, client: LauncherClient, records: DispatchRecords, finish: Finish) -> None:
        self._client = client
        self._records = records
        self._finish = finish
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def look(self, dispatches: Sequence[Dispatch]) -> None:
        """Look once at all of them. What cannot be asked now changes nothing.

        Raises:
            LauncherError: The launcher could not be asked at all.
        """
        try:
            text = await self._client.query("queue", "slurm-queue-info")
            own = {one.record.job_id for one in dispatches if one.record.job_id is not None}
            queue = parse_queue(cut_queue(text, own))
        except (UnreadableAnswer, LauncherUnreadable) as error:
            log.warning("the queue cannot be read: %s", error)
            queue = {}
        async with asyncio.TaskGroup() as group:
            for dispatch in sorted(dispatches, key=lambda one: one.checked_at):
                group.create_task(self._look_at(dispatch, queue))

    async def _look_at(self, dispatch: Dispatch, queue: Mapping[str, QueuedJob]) -> None:
        async with self._limit, dispatch.lock:
            if dispatch.is_finished:
                return
            dispatch.checked_at = asyncio.get_running_loop().time()
            job_id = dispatch.record.job_id
            job = queue.get(job_id) if job_id is not None else None
            try:
                if job is None or dispatch.kill_accepted_at is not None:
                    await self._ask_for(dispatch)
                elif job.state.upper() in ("PD", "PENDING"):
                    await self._publish(dispatch, DispatchState.PENDING, job)
                elif job.state.upper() in ("R", "RUNNING"):
                    await self._publish(dispatch, DispatchState.RUNNING, job)
                else:
                    await self._ask_for(dispatch)
            except LauncherError as error:
                log.info(
                    "a job's state is not known now",
                    extra={"dispatch_id": dispatch.record.id, "error": str(error)},
                )
            except Exception:  # it costs the others nothing, and is looked at again
                log.exception("looking at a job failed", extra={"dispatch_id": dispatch.record.id})

    async def _ask_for(self, dispatch: Dispatch) -> None:
        record = dispatch.record
        try:
            status = await self._client.fetch_status(record.owner, record.id)
        except DispatchNotFound:
            was_killed = dispatch.kill_accepted_at is not None
            text = "job was canceled" if was_killed else "job was lost"
            if not was_killed:
                log.error("the launcher lost a job", extra={"dispatch_id": record.id})
            failure = Failure(type=FailureType.RESOURCES_FAILED, message=text)
            change = Change(state=ResourcesState.TERMINATED, failure=failure)
            await self._finish(dispatch, change)
            return
        await self.hear(dispatch, status)

    async def hear(self, dispatch: Dispatch, status: DispatchStatus) -> None:
        """Take in what the launcher says of a dispatch."""
        if status.job_id is not None and dispatch.record.job_id is None:
            dispatch.record.job_id = status.job_id
            await self._remember(dispatch)  # a restart does not say it again
            await dispatch.holder.say(f"HPC Job ID: {status.job_id}")
        if not status.state.is_final:
            await self._publish(dispatch, status.state, None)
            return
        text = await explain(dispatch, status, self._client)
        if text:
            is_success = status.state is DispatchState.COMPLETED
            await dispatch.holder.say(text, is_error=not is_success)
        await self._finish(dispatch, make_change(status, text))

    async def _publish(
        self, dispatch: Dispatch, state: DispatchState, job: QueuedJob | None
    ) -> None:
        if job is not None and (line := note_reason(dispatch.record, job)) is not None:
            await self._remember(dispatch)
            await dispatch.holder.say(line)
        if state is dispatch.state:
            return
        dispatch.state = state
        if state is DispatchState.RUNNING:
            # Slurm runs the script; the containers say themselves when they run.
            await dispatch.holder.changed(
                dispatch.record.resources_id, Change(state=ResourcesState.PULLING)
            )

    async def _remember(self, dispatch: Dispatch) -> None:
        """Store what the task's log is told; a job is watched even if that cannot be stored."""
        try:
            await self._records.save(dispatch.record)
        except Unavailable as error:
            log.warning(
                "after a restart a task's log may be told a second time",
                extra={"dispatch_id": dispatch.record.id, "error": str(error)},
            )
