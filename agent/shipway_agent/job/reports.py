"""What a rank tells the master about itself: that it runs, and that Slurm wants it to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from shipway_agent.job.cause import Cause
from shipway_agent.job.notices import Notices
from shipway_agent.job.rank import Rank
from shipway_agent.taskapi import TaskApi

log = logging.getLogger(__name__)

_SAID = {
    Cause.PREEMPTION: "Slurm preempts the job",
    Cause.TIME_LIMIT: "Slurm warns the job of its time limit",
    Cause.UNKNOWN: "Slurm does not tell why the job is to end",
}


class Reports:
    """Tells the master in the background; to be entered.

    On the way out it waits a while for what is not delivered; that is the only limit, for each
    report can be repeated without harm.
    """

    def __init__(
        self,
        api: TaskApi,
        allocation_id: str,
        rank: Rank,
        notices: Notices,
        *,
        find_cause: Callable[[], Awaitable[Cause]],
        is_preemptible: bool,
        limit_s: float,
    ) -> None:
        """Prepare.

        Args:
            api: Where to tell it.
            allocation_id: Which allocation this is a rank of.
            rank: Which rank.
            notices: Say when the job is to end.
            find_cause: Finds out why.
            is_preemptible: Whether the task saves its work when the master asks it to leave, so
                that the master is to ask it before a time limit, too; others would be killed.
            limit_s: How long the end waits for reports that are not delivered yet.
        """
        self._api, self._rank, self._notices = api, rank, notices
        self._find_cause, self._is_preemptible = find_cause, is_preemptible
        self.cause: Cause | None = None
        """Why the job is to end; None while no notice came, or this rank has no need to know."""
        self._path = f"/api/v1/allocations/{allocation_id}"
        self._allocation_id, self._limit_s = allocation_id, limit_s
        self._group = asyncio.TaskGroup()
        self._stack = contextlib.AsyncExitStack()
        self._preemption: asyncio.Task[None] | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._group)
        self._preemption = self._group.create_task(
            self._report_preemption(), name="preemption pending"
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pending = {task for task in (self._preemption, self._running) if task is not None}
        if self._preemption is not None and not self._notices.preempted.is_set():
            pending.discard(self._preemption)
            self._preemption.cancel()
        if pending:
            _, late = await asyncio.wait(pending, timeout=self._limit_s)
            for task in late:
                log.warning(
                    "not told to the master within %g s: %s", self._limit_s, task.get_name()
                )
                task.cancel()
        await self._stack.__aexit__(kind, error, trace)

    def running(self) -> None:
        """Report that the task's first process runs on this rank."""
        body: dict[str, Any] = {
            "allocationId": self._allocation_id,
            "requestUuid": str(uuid.uuid4()),
            "numPeers": self._rank.peers,
            "rank": self._rank.number,
            "nodeName": self._rank.node,
            "data": {},
        }
        self._running = self._group.create_task(
            self._api.post_until_taken(f"{self._path}/notify_container_running", body),
            name="container running",
        )

    async def _report_preemption(self) -> None:
        await self._notices.preempted.wait()
        if self._is_preemptible:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tell_preemption())
                if self._rank.number == 0:  # thousands need not ask for what makes no difference
                    group.create_task(self._note_cause())
        elif await self._note_cause() is not Cause.TIME_LIMIT:
            await self._tell_preemption()

    async def _note_cause(self) -> Cause:
        self.cause = await self._find_cause()
        log.warning("%s", _SAID[self.cause])
        return self.cause

    async def _tell_preemption(self) -> None:
        await self._api.post_until_taken(f"{self._path}/signals/pending_preemption", {})
