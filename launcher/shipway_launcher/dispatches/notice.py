"""Tell the master that Slurm preempts a job, also where the job itself hears nothing of it."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from shipway_common.backoff import backoff_delays_s
from shipway_launcher.dispatches import files
from shipway_launcher.dispatches.record import Dispatch, DispatchId
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.taskfile import TASK_FILE
from shipway_launcher.errors import LauncherError, NotFound
from shipway_launcher.relay.errors import RelayError
from shipway_launcher.users import Users

log = logging.getLogger(__name__)

_LONGEST_TASK_FILE = 64 << 20
_LONGEST_PAUSE_S = 10.0


class PreemptionSink(Protocol):
    """Who tells the master, once, when it is there."""

    async def report_preemption(self, allocation_id: str, token: str) -> None:
        """Take the report; raises `RelayError` if it could not be taken."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIdentity:
    """As whom a job speaks to the master."""

    allocation_id: str
    token: str


class PreemptionNotices:
    """Reads a preempted job's token from its task file and hands the report over, once each.

    The record says when that is done; the sink, too, takes a report of one allocation only once,
    so that a crash in between, or the job's own report, does not make two of them.
    """

    def __init__(self, registry: Registry, users: Users, sink: PreemptionSink, root: Path) -> None:
        """Prepare; *root* is the job_storage_root."""
        self._registry, self._users, self._sink, self._root = registry, users, sink, root
        self._due: asyncio.Queue[DispatchId] = asyncio.Queue()  # at most one for each dispatch
        self._known: set[DispatchId] = set()

    def note(self, dispatch: Dispatch) -> None:
        """Take note of a dispatch whose job Slurm has announced to preempt."""
        if not dispatch.state.is_final and dispatch.id not in self._known:
            self._known.add(dispatch.id)
            self._due.put_nowait(dispatch.id)

    async def run(self) -> None:
        """Report until cancelled, first what an earlier run left over."""
        for dispatch in self._registry.all():
            if dispatch.preempted_at is not None and not dispatch.is_preemption_told:
                self.note(dispatch)
        async with asyncio.TaskGroup() as group:
            while True:
                dispatch_id = await self._due.get()
                group.create_task(self._report(dispatch_id), name=f"preemption {dispatch_id}")

    async def _report(self, dispatch_id: DispatchId) -> None:
        """Try until it is taken or the job is over."""
        level = logging.WARNING
        try:
            for delay_s in backoff_delays_s(limit_s=_LONGEST_PAUSE_S):
                dispatch = self._registry.find(dispatch_id)
                if dispatch is None or dispatch.state.is_final:
                    return
                try:
                    await self._tell(dispatch)
                except NotFound:  # removed meanwhile
                    return
                except (LauncherError, RelayError) as error:
                    extra = {"dispatch_id": dispatch.id}
                    log.log(level, "a preemption is not reported yet: %s", error, extra=extra)
                    level = logging.DEBUG  # said once
                else:
                    return
                await asyncio.sleep(delay_s)
        finally:
            self._known.discard(dispatch_id)

    async def _tell(self, dispatch: Dispatch) -> None:
        identity = await self._read_identity(dispatch)
        if identity is None:
            log.info(
                "a preemption is reported to nobody: the job belongs to no master",
                extra={"dispatch_id": dispatch.id},
            )
        else:
            await self._sink.report_preemption(identity.allocation_id, identity.token)
        await self._registry.update(
            dispatch.id, lambda found: replace(found, is_preemption_told=True)
        )

    async def _read_identity(self, dispatch: Dispatch) -> JobIdentity | None:
        user = await self._users.get(dispatch.owner)
        path = files.job_folder(self._root, dispatch.owner, dispatch.id) / TASK_FILE
        data = await user.read(path, offset=0, limit=_LONGEST_TASK_FILE)
        return await asyncio.to_thread(parse_identity, data)


def parse_identity(task_file: bytes) -> JobIdentity | None:
    """Read who the job of a task file is to the master; None if it does not say."""
    try:
        task: Any = json.loads(task_file)
        allocation_id, environment = task["allocation_id"], task["environment"]
        token = cast("object", environment["DET_SESSION_TOKEN"])
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(allocation_id, str) or not isinstance(token, str) or not token:
        return None
    return JobIdentity(allocation_id=allocation_id, token=token)
