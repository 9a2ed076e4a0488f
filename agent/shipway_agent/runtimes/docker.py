"""Docker, and Podman where it offers Docker's API on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp

from shipway_agent.errors import (
    ContainerNotFound,
    ContainerRuntimeError,
    ImageNotFound,
    LaunchRefused,
    RuntimeRefused,
    RuntimeUnavailable,
    SpecUnsupported,
)
from shipway_agent.runtimes.archives import tar_of
from shipway_agent.runtimes.dockerforms import (
    Json,
    addresses_of,
    create_body,
    exit_of,
    owned_of,
    processes_of,
    state_of,
)
from shipway_agent.runtimes.dockerlogs import LogReader
from shipway_agent.runtimes.dockerpull import pull_image
from shipway_agent.runtimes.engine import CALL_LIMIT_S, Engine, connect
from shipway_agent.runtimes.environment import check_strings
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.podmanlog import read_log
from shipway_agent.runtimes.spec import (
    ID_LABEL,
    Chunk,
    ContainerHandle,
    ContainerSpec,
    ContainerState,
    Event,
    EventKind,
    Exit,
    OnEvent,
    Owned,
    Processes,
    Started,
)
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

_DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
_ARCHIVE_LIMIT_S = 600.0
_KILL_LIMIT_S = 15.0
_CLEAN_UP_LIMIT_S = 30.0
_PING_LIMIT_S = 5.0

_no_image = re.compile(r"no such image|image not known", re.IGNORECASE)
_no_container = re.compile(r"no such container|no container with", re.IGNORECASE)


async def open_runtime(options: RuntimeOptions) -> DockerRuntime:
    """Open the Docker engine of the options or the environment.

    Raises:
        RuntimeUnavailable: It does not answer.
    """
    address = options.docker_host or options.environ.get("DOCKER_HOST") or _DEFAULT_ADDRESS
    engine = await connect(address, options.environ)
    return DockerRuntime(engine, options)


class DockerRuntime:
    """Containers of an engine that speaks Docker's API."""

    def __init__(self, engine: Engine, options: RuntimeOptions) -> None:
        self._engine = engine
        self._environ = options.environ
        self.name = "podman" if engine.is_podman else "docker"

    @property
    def description(self) -> str:
        """Version and address."""
        return f"{self.name} {self._engine.version} at {self._engine.address}"

    async def pull(self, spec: ContainerSpec, on_event: OnEvent) -> None:
        """Make the image available; see `Runtime.pull`."""
        await pull_image(self._engine, spec, self._environ, on_event)

    async def create(self, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
        """Make the container; see `Runtime.create`."""
        if not spec.image:
            raise SpecUnsupported("the container names no image")
        check_strings(spec, utf8_only=True)
        if self._engine.is_podman and self._engine.address.startswith("unix://"):
            await asyncio.to_thread(_check_sources, spec)
        body = create_body(spec, for_podman=self._engine.is_podman)
        name = _container_name(spec)
        try:
            answer = await self._create_surely(name, body)
            native_id = str(answer["Id"])
            for text in answer.get("Warnings") or ():
                text = f"warning when creating container: {text}"
                on_event(Event(kind=EventKind.WARNING, text=text))
            await self._copy_archives(native_id, spec, on_event)
        except BaseException as error:
            # Also when cancelled: the engine may have made it although we have not seen its answer.
            await self._clean_up(name)
            if isinstance(error, RuntimeRefused) and _no_image.search(str(error)):
                raise ImageNotFound(f"creating container: {error}") from error
            raise
        return ContainerHandle(container_id=spec.id, native_id=native_id)

    async def start(self, handle: ContainerHandle) -> Started:
        """Start the program; see `Runtime.start`."""
        try:
            await self._call(handle, "POST", "start")
        except RuntimeRefused as error:
            raise await self._launch_refusal(handle, error) from error
        return Started(addresses=addresses_of(await self._inspect(handle)))

    async def output(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        """Yield all output; see `Runtime.output`.

        The engine hands output on by lines, or by 16 KiB of one: what a program writes without
        ending the line comes late.
        """
        if self._engine.is_podman:
            async for chunk in self._read_podman_log(handle):
                yield chunk
            return
        log_reader = LogReader(self._engine, handle.native_id)
        for delay_s in backoff_delays_s(limit_s=10):
            try:
                async for chunk in log_reader.read(follow=True):
                    yield chunk
                if await self._has_ended(handle):
                    async for chunk in log_reader.read(follow=False):
                        yield chunk
                    return
                # Else the engine restarts, and the container lives on.
            except (aiohttp.ClientError, RuntimeUnavailable) as error:
                log.warning("log stream of the engine broke", extra={"reason": str(error)})
            except RuntimeRefused as error:
                if error.status not in {404, 409}:
                    raise
                return  # it was removed
            await asyncio.sleep(delay_s)

    async def wait(self, handle: ContainerHandle) -> Exit:
        """Wait for the end; see `Runtime.wait`."""
        for delay_s in backoff_delays_s(limit_s=10):
            try:
                if (ended := await self._wait_once(handle)) is not None:
                    return ended
            except RuntimeUnavailable as error:
                # The engine may be restarting while the container goes on.
                log.warning("waiting for the engine", extra={"reason": str(error)})
            await asyncio.sleep(delay_s)
        raise AssertionError("backoff_delays_s has no end")

    async def signal(self, handle: ContainerHandle, number: int) -> None:
        """Signal the first process; see `Runtime.signal`."""
        try:
            name = signal.Signals(number).name
        except ValueError:  # a real-time signal; engines take its number
            name = str(number)
        try:
            await self._call(handle, "POST", "kill", params={"signal": name})
        except ContainerNotFound:
            return
        except RuntimeRefused:
            if not await self._has_ended(handle):
                raise

    async def kill(self, handle: ContainerHandle) -> None:
        """End it all; see `Runtime.kill`."""
        inspected = await self._find(handle.native_id)
        if inspected is None or state_of(inspected) is not ContainerState.RUNNING:
            return
        await self.signal(handle, signal.SIGKILL)
        try:
            async with asyncio.timeout(_KILL_LIMIT_S):
                if inspected["State"].get("Paused"):  # it dies of it only when it goes on
                    with contextlib.suppress(RuntimeRefused):  # or it has died already
                        await self._call(handle, "POST", "unpause")
                await self.wait(handle)
        except TimeoutError as error:
            raise RuntimeRefused(
                f"container {handle.native_id} still runs {_KILL_LIMIT_S} s after SIGKILL"
            ) from error

    async def remove(self, handle: ContainerHandle) -> None:
        """Kill and forget; see `Runtime.remove`."""
        await self._delete(handle.native_id)

    async def list_owned(self, labels: Mapping[str, str]) -> list[Owned]:
        """Find ours; see `Runtime.list_owned`."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        filters = json.dumps({"label": [*wanted, ID_LABEL]})
        rows: list[dict[str, Any]] = await self._engine.call(
            "GET", "containers/json", params={"all": "1", "filters": filters}
        )
        found = [await self._find(str(row["Id"])) for row in rows]
        return [owned_of(inspected) for inspected in found if inspected is not None]

    async def processes(self, handle: ContainerHandle) -> Processes | None:
        """Find its processes; see `Runtime.processes`."""
        if not self._engine.address.startswith("unix://"):
            return None  # the pid may be one of another host
        inspected = await self._find(handle.native_id)
        return await asyncio.to_thread(processes_of, inspected) if inspected else None

    async def ping(self) -> None:
        """Ask for a sign of life; see `Answers.ping`."""
        await self._engine.call("GET", "version", limit_s=_PING_LIMIT_S)

    async def aclose(self) -> None:
        """Let go; see `Runtime.aclose`."""
        await self._engine.aclose()

    async def _create_surely(self, name: str, body: Json) -> Json:
        """Make a container; if cancelled meanwhile, wait for the answer so that it can be undone."""
        request = self._engine.call("POST", "containers/create", params={"name": name}, body=body)
        task = asyncio.create_task(request)
        try:
            answer: Json = await asyncio.shield(task)
        except asyncio.CancelledError:
            with contextlib.suppress(ContainerRuntimeError, TimeoutError):
                async with asyncio.timeout(_CLEAN_UP_LIMIT_S):
                    await task
            raise
        return answer

    async def _copy_archives(self, native_id: str, spec: ContainerSpec, on_event: OnEvent) -> None:
        for archive in spec.archives:
            text = f"copying files to container: {archive.path}"
            on_event(Event(kind=EventKind.INFO, text=text))
            data = await asyncio.to_thread(tar_of, archive)
            await self._engine.call(
                "PUT",
                f"containers/{native_id}/archive",
                params={"path": archive.path, "noOverwriteDirNonDir": "true"},
                data=data,
                limit_s=_ARCHIVE_LIMIT_S,
            )

    async def _clean_up(self, name: str) -> None:
        try:
            async with asyncio.timeout(_CLEAN_UP_LIMIT_S):
                await self._delete(name)
        except (ContainerRuntimeError, TimeoutError) as error:
            log.warning(
                "cannot remove a container that was not finished",
                extra={"container_name": name, "reason": str(error)},
            )

    async def _delete(self, name: str) -> None:
        """Remove a container, running or not; returns when it is gone."""
        for delay_s in backoff_delays_s(first_s=0.1, limit_s=2):
            try:
                await self._engine.call(
                    "DELETE", f"containers/{name}", params={"force": "1", "v": "1"}
                )
            except RuntimeRefused as error:
                if error.status == 404:
                    return
                if error.status != 409:  # 409: somebody is removing it already
                    raise
            else:
                return
            await asyncio.sleep(delay_s)

    async def _read_podman_log(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        inspected = await self._find(handle.native_id)
        if inspected is None:
            return
        async with aclosing(read_log(Path(inspected["LogPath"]), self.wait(handle))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _launch_refusal(
        self, handle: ContainerHandle, error: RuntimeRefused
    ) -> LaunchRefused:
        inspected = await self._find(handle.native_id) or {"State": {}}
        code = inspected["State"].get("ExitCode")
        return LaunchRefused(
            f"starting container: {error}", exit_code=code if code in {126, 127} else None
        )

    async def _wait_once(self, handle: ContainerHandle) -> Exit | None:
        """Wait for the end; None if the engine answered without the container having ended."""
        answer: Json | None = None
        try:
            answer = await self._call(handle, "POST", "wait", limit_s=None)
            inspected = await self._inspect(handle)
        except ContainerNotFound:
            if answer is not None and "StatusCode" in answer:
                return Exit(code=int(answer["StatusCode"]))
            return Exit(code=None, reason="it was removed before its exit status was read")
        return exit_of(inspected) if state_of(inspected) is ContainerState.EXITED else None

    async def _has_ended(self, handle: ContainerHandle) -> bool:
        inspected = await self._find(handle.native_id)
        return inspected is None or state_of(inspected) is ContainerState.EXITED

    async def _inspect(self, handle: ContainerHandle) -> Json:
        inspected: Json = await self._call(handle, "GET", "json")
        return inspected

    async def _find(self, native_id: str) -> Json | None:
        try:
            inspected: Json = await self._engine.call("GET", f"containers/{native_id}/json")
        except RuntimeRefused as error:
            if error.status == 404:
                return None
            raise
        return inspected

    async def _call(
        self,
        handle: ContainerHandle,
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
        path = f"containers/{handle.native_id}/{action}"
        try:
            return await self._engine.call(method, path, params=params, limit_s=limit_s)
        except RuntimeRefused as error:
            # A missing program in a container is a 404 too, of some engines.
            if error.status == 404 and _no_container.search(str(error)):
                raise ContainerNotFound(str(error)) from error
            raise


def _container_name(spec: ContainerSpec) -> str:
    """Return a name that nobody else has, and that tells people what it is."""
    hint = re.sub(r"[^a-zA-Z0-9_.-]", "-", spec.name)[:64].lstrip("_.-") or "shipway"
    return f"{hint}-{uuid.uuid4().hex[:12]}"


def _check_sources(spec: ContainerSpec) -> None:
    """Refuse mounts of what is not there; Podman's service would make folders for them."""
    for mount in spec.mounts:
        if not os.path.exists(mount.source):
            raise SpecUnsupported(f"bind mount {mount.source}: there is no such path on this host")
