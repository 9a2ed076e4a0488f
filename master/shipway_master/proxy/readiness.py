"""Whether services answer: asked from here, so that nothing in the image needs to tell."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from shipway_master.allocations.life import AllocationState, is_at_least
from shipway_master.errors import MasterError
from shipway_master.proxy.targets import (
    ServiceNotFound,
    ServiceUnreachable,
    Target,
    find_target,
    require_reachable,
)
from shipway_master.proxynetworks import ProxyNetworks
from shipway_master.tasks.records import TaskRecord
from shipway_master.tasks.tasks import Tasks

log = logging.getLogger(__name__)

_ANSWER_LIMIT_S: Final = 2
_SSH: Final = b"SSH-"
_HTTP: Final = b"HTTP"


async def watch_services(tasks: Tasks, networks: ProxyNetworks, *, interval_s: float) -> None:
    """Mark each run ready whose service answers, until cancelled."""
    while True:
        async with asyncio.TaskGroup() as group:
            for record in tasks.list_open():
                if record.service is not None and _may_be_ready(record, tasks):
                    group.create_task(_mark_if_ready(record, tasks, networks))
        await asyncio.sleep(interval_s)


def _may_be_ready(record: TaskRecord, tasks: Tasks) -> bool:
    run = tasks.find_run(record.task_id)
    return (
        run is not None
        and not run.is_over
        and not run.record.is_ready
        and is_at_least(run.record.state, AllocationState.STARTING)
    )


async def _mark_if_ready(record: TaskRecord, tasks: Tasks, networks: ProxyNetworks) -> None:
    try:
        target = await require_reachable(await find_target(record.task_id, tasks), networks)
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            if not await _answers(target, record):
                return
    except (ServiceNotFound, ServiceUnreachable, OSError, ValueError):
        return  # not yet; ValueError: the address that the task told is no host name
    run = tasks.find_run(record.task_id)
    if run is None or run.is_over:
        return
    try:
        await run.ready()
    except MasterError as error:
        log.warning("a service is ready, which cannot be stored: %s", error)


async def _answers(target: Target, record: TaskRecord) -> bool:
    """Whether the service itself answers: Docker takes connections before anybody listens."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        if not target.is_tcp:
            writer.write(f"GET /proxy/{record.task_id}/api HTTP/1.0\r\n\r\n".encode())
        expected = _SSH if target.is_tcp else _HTTP
        return await reader.readexactly(len(expected)) == expected
    except asyncio.IncompleteReadError:
        return False
    finally:
        writer.close()
