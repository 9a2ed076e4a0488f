"""Taking containers out of a runtime that may not answer at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from shipway_agent.containers.surroundings import Limits
from shipway_agent.errors import ContainerRuntimeError
from shipway_agent.runtimes.spec import ID_LABEL, ContainerHandle, ContainerId, Runtime

log = logging.getLogger(__name__)


async def remove_all_of(runtime: Runtime, container_id: ContainerId, limits: Limits) -> None:
    """Kill and remove whatever the runtime has under the master's id, known to us or not."""

    async def remove_found() -> None:
        for owned in await runtime.list_owned({ID_LABEL: container_id}):
            await runtime.remove(owned.handle)

    await _try(remove_found, limits)


async def remove_ended(runtime: Runtime, handle: ContainerHandle, limits: Limits) -> None:
    """Remove a container that has ended."""
    await _try(lambda: runtime.remove(handle), limits)


async def _try(remove: Callable[[], Awaitable[None]], limits: Limits) -> None:
    delays = limits.delays()
    for _ in range(limits.removal_tries):
        try:
            await remove()
        except (ContainerRuntimeError, OSError) as error:
            log.warning("container not removed, trying again: %s", error)
            await asyncio.sleep(next(delays))
        else:
            return
    log.error("gave up removing a container; the next start of the agent tries again")
