"""Making and starting a container once, although the engine may restart in the middle of it.

A request whose answer never came may have worked. So before one is repeated, the engine is asked
what became of it; the container's name, which nobody else has, is the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import posixpath
import re
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from shipway_agent.errors import (
    ContainerRuntimeError,
    ImageNotFound,
    LaunchRefused,
    RuntimeRefused,
    RuntimeUnavailable,
)
from shipway_agent.runtimes import containercalls
from shipway_agent.runtimes.archives import tar_of
from shipway_agent.runtimes.dockerforms import Json, create_body, state_of
from shipway_agent.runtimes.dockerprogram import check_program
from shipway_agent.runtimes.dockerpull import find_image
from shipway_agent.runtimes.engine import Engine
from shipway_agent.runtimes.engineinfo import EngineInfo, fetch_engine_info
from shipway_agent.runtimes.orphans import kill_orphans
from shipway_agent.runtimes.patience import outlast
from shipway_agent.runtimes.podmanspec import podman_body
from shipway_agent.runtimes.spec import (
    ContainerHandle,
    ContainerSpec,
    ContainerState,
    Event,
    EventKind,
    OnEvent,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_CREATE_LIMIT_S = 600.0
"""Long, for some storage drivers copy the whole image."""
_START_LIMIT_S = 300.0
"""Long, for the drivers of many GPUs may have to wake up."""
_ARCHIVE_LIMIT_S = 600.0
_CLEAN_UP_LIMIT_S = 30.0
_SECOND_TRY_AFTER_S = 1.0

_no_image = re.compile(r"no such image|image not known", re.IGNORECASE)
_inits = frozenset(
    [
        "init",
        "systemd",
        "s6-svscan",
        "tini",
        "tini-static",
        "dumb-init",
        "catatonit",
        "docker-init",
        "my_init",
        "runsvdir",
    ]
)
_half_started = re.compile(r"task [0-9a-f]+: already exists|id already in use")
_no_init = "container-init binary not found"


async def create(engine: Engine, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
    """Make the container with its files, or nothing; see `Runtime.create`."""
    name = _container_name(spec)
    try:
        answer = await _create_surely(engine, name, spec)
        native_id = str(answer["Id"])
        for text in answer.get("Warnings") or ():
            text = f"warning when creating container: {text}"
            on_event(Event(kind=EventKind.WARNING, text=text))
        await _copy_archives(engine, native_id, spec, on_event)
    except BaseException as error:
        # Also when cancelled: the engine may have made it although we have not seen its answer.
        await _clean_up(engine, name)
        if isinstance(error, RuntimeRefused) and _no_image.search(str(error)):
            raise ImageNotFound(f"creating container: {error}") from error
        raise
    return ContainerHandle(container_id=spec.id, native_id=native_id)


async def start(engine: Engine, handle: ContainerHandle) -> Json:
    """Start the program, and return what the engine then knows of the container.

    Raises:
        LaunchRefused: It could not be started.
        RuntimeUnavailable: The engine does not answer, or cannot go on with what it began.
    """
    native_id = handle.native_id
    inspected = await outlast(lambda: containercalls.inspect(engine, native_id))
    await outlast(lambda: check_program(engine, inspected))
    tries = 0

    async def ask() -> None:
        nonlocal tries
        tries += 1
        if tries > 1:
            seen = await containercalls.inspect(engine, native_id)
            if state_of(seen) is not ContainerState.CREATED:
                return
        await containercalls.call(engine, native_id, "POST", "start", limit_s=_START_LIMIT_S)

    try:
        await _insist(engine, ask)
    except RuntimeRefused as error:
        if _half_started.search(str(error)):
            raise await _give_up(engine, native_id, error) from error
        raise await _launch_refusal(engine, native_id, error) from error
    return await outlast(lambda: containercalls.inspect(engine, native_id))


async def _create_surely(engine: Engine, name: str, spec: ContainerSpec) -> Json:
    """Make a container; if cancelled meanwhile, wait for the answer so that it can be undone."""
    info = await outlast(lambda: fetch_engine_info(engine))
    if await outlast(lambda: _begins_with_init(engine, spec)):
        info = info.without_init()
    task = asyncio.create_task(_create_with_init(engine, name, spec, info))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(ContainerRuntimeError, TimeoutError):
            async with asyncio.timeout(_CLEAN_UP_LIMIT_S):
                await task
        raise


async def _begins_with_init(engine: Engine, spec: ContainerSpec) -> bool:
    """Say whether the container has an init of its own, which may insist on being the first."""
    assert spec.image is not None
    words: list[str] = list(spec.entrypoint or ())
    if spec.entrypoint is None:
        image = await find_image(engine, spec.image) or {}
        config: Json = image.get("Config") or {}
        words = config.get("Entrypoint") or []
    first = next(iter([*words, *spec.argv]), "")
    return posixpath.basename(first) in _inits


async def _create_with_init(
    engine: Engine, name: str, spec: ContainerSpec, info: EngineInfo
) -> Json:
    try:
        return await _create_once(engine, name, spec, info)
    except RuntimeRefused as error:
        if not info.has_init or _no_init not in str(error):
            raise
        log.info("the engine has no init to put before programs: %s", error)
    return await _create_once(engine, name, spec, info.without_init())


async def _create_once(engine: Engine, name: str, spec: ContainerSpec, info: EngineInfo) -> Json:
    if engine.is_podman:
        body = await asyncio.to_thread(podman_body, name, spec, info)
        path, params = "libpod/containers/create", {}
    else:
        body = await asyncio.to_thread(create_body, spec, info)
        path, params = "containers/create", {"name": name}
    tries = 0

    async def ask() -> Json:
        nonlocal tries
        tries += 1
        if tries > 1 and (found := await containercalls.find(engine, name)) is not None:
            return found
        try:
            answer: Json = await engine.call(
                "POST", path, params=params, body=body, limit_s=_CREATE_LIMIT_S
            )
        except RuntimeRefused:
            # The name may have been taken by an earlier try that was slower than our patience.
            if tries > 1 and (found := await containercalls.find(engine, name)) is not None:
                return found
            raise
        return answer

    return await _insist(engine, ask)


async def _insist(engine: Engine, ask: Callable[[], Awaitable[T]]) -> T:
    """Outlast an outage, the beginning of which may look like a refusal.

    Docker that is going down refuses in many words; a second try finds it down, or up again.
    """
    try:
        return await outlast(ask)
    except RuntimeRefused as error:
        if engine.is_podman or (error.status or 0) < 500:
            raise
        log.warning("refused, trying once more: %s", error)
    await asyncio.sleep(_SECOND_TRY_AFTER_S)
    return await outlast(ask)


async def _copy_archives(
    engine: Engine, native_id: str, spec: ContainerSpec, on_event: OnEvent
) -> None:
    for archive in spec.archives:
        text = f"copying files to container: {archive.path}"
        on_event(Event(kind=EventKind.INFO, text=text))
        data = await asyncio.to_thread(tar_of, archive)
        await _insist(engine, partial(_copy, engine, native_id, archive.path, data))


async def _copy(engine: Engine, native_id: str, folder: str, data: bytes) -> None:
    await engine.call(
        "PUT",
        f"containers/{native_id}/archive",
        params={"path": folder, "noOverwriteDirNonDir": "true"},
        data=data,
        limit_s=_ARCHIVE_LIMIT_S,
    )


async def _clean_up(engine: Engine, name: str) -> None:
    try:
        async with asyncio.timeout(_CLEAN_UP_LIMIT_S):
            await outlast(lambda: containercalls.delete(engine, name))
    except (ContainerRuntimeError, TimeoutError) as error:
        log.warning(
            "cannot remove a container that was not finished",
            extra={"container_name": name, "reason": str(error)},
        )


async def _give_up(engine: Engine, native_id: str, error: RuntimeRefused) -> RuntimeUnavailable:
    """End what is left of a start that the engine died of before it had noted that it happened.

    It refuses to start the container ever after.
    """
    if engine.address.startswith("unix://"):
        await asyncio.to_thread(kill_orphans, native_id)
    return RuntimeUnavailable(f"the engine died with a start half done: {error}")


async def _launch_refusal(engine: Engine, native_id: str, error: RuntimeRefused) -> LaunchRefused:
    inspected = await outlast(lambda: containercalls.find(engine, native_id)) or {"State": {}}
    code = inspected["State"].get("ExitCode")
    return LaunchRefused(
        f"starting container: {error}", exit_code=code if code in {126, 127} else None
    )


def _container_name(spec: ContainerSpec) -> str:
    """Return a name that nobody else has, and that tells people what it is."""
    hint = re.sub(r"[^a-zA-Z0-9_.-]", "-", spec.name)[:64].lstrip("_.-") or "shipway"
    return f"{hint}-{uuid.uuid4().hex[:12]}"
