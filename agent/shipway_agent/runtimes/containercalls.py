"""What can be asked of one container of an engine, by the engine's own id of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any

from shipway_agent.errors import ContainerNotFound, RuntimeRefused
from shipway_agent.runtimes.dockerforms import Json
from shipway_agent.runtimes.engine import CALL_LIMIT_S, Engine
from shipway_common.backoff import backoff_delays_s

_REMOVAL_LIMIT_S = 300.0

_no_container = re.compile(r"no such container|no container with", re.IGNORECASE)


async def call(
    engine: Engine,
    native_id: str,
    method: str,
    action: str,
    *,
    params: Mapping[str, str] | None = None,
    limit_s: float | None = CALL_LIMIT_S,
) -> Any:
    """Do something with one container.

    Raises:
        ContainerNotFound: The engine does not know it (any more).
    """
    path = f"containers/{native_id}/{action}"
    try:
        return await engine.call(method, path, params=params, limit_s=limit_s)
    except RuntimeRefused as error:
        # A missing program in a container is a 404 too, of some engines.
        if error.status == 404 and _no_container.search(str(error)):
            raise ContainerNotFound(str(error)) from error
        raise


async def inspect(engine: Engine, native_id: str) -> Json:
    """Return all that the engine knows of a container.

    Raises:
        ContainerNotFound: It does not know it (any more).
    """
    inspected: Json = await call(engine, native_id, "GET", "json")
    return inspected


async def find(engine: Engine, name: str) -> Json | None:
    """Return what the engine knows of the container of that name or id, if there is one."""
    try:
        inspected: Json = await engine.call("GET", f"containers/{name}/json")
    except RuntimeRefused as error:
        if error.status == 404:
            return None
        raise
    return inspected


async def delete(engine: Engine, name: str) -> None:
    """Remove a container, running or not; returns when it is gone.

    Raises:
        RuntimeRefused: Somebody else has been removing it for minutes.
    """
    deadline = time.monotonic() + _REMOVAL_LIMIT_S
    for delay_s in backoff_delays_s(first_s=0.1, limit_s=2):
        try:
            await engine.call("DELETE", f"containers/{name}", params={"force": "1", "v": "1"})
        except RuntimeRefused as error:
            if error.status == 404:
                return
            # 409: somebody is removing it already.
            if error.status != 409 or time.monotonic() > deadline:
                raise
        else:
            return
        await asyncio.sleep(delay_s)
