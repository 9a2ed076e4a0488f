"""Docker, and Podman where it serves its API on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp

from shipway_agent.errors import (
    ContainerNotFound,
    ContainerRuntimeError,
    RuntimeRefused,
    RuntimeUnavailable,
)
from shipway_agent.runtimes import containercalls, dockerlaunch
from shipway_agent.runtimes.dockerforms import (
    Json,
    addresses_of,
    doubt_after_outage,
    exit_of,
    owned_of,
    processes_of,
    state_of,
)
from shipway_agent.runtimes.dockerlogs import LogReader, read_last_words
from shipway_agent.runtimes.dockerprogram import CODES_OF_INIT, refusal_in
from shipway_agent.runtimes.dockerpull import pull_image
from shipway_agent.runtimes.engine import Engine, connect
from shipway_agent.runtimes.environment import check_strings
from shipway_agent.runtimes.foldernews import FolderNews
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.patience import Outage, outlast
from shipway_agent.runtimes.podmanlog import read_log, read_log_end
from shipway_agent.runtimes.spec import (
    ID_LABEL,
    Chunk,
    ContainerHandle,
    ContainerSpec,
    ContainerState,
    Exit,
    OnEvent,
    Owned,
    Processes,
    Started,
)

log = logging.getLogger(__name__)

_USUAL_SOCKET = Path("/var/run/docker.sock")
_KILL_LIMIT_S = 15.0
_PING_LIMIT_S = 5.0
_WAIT_LIMIT_S = 600.0
"""After so long a request to wait is made anew, should the engine have forgotten it."""


async def open_runtime(options: RuntimeOptions) -> DockerRuntime:
    """Open the Docker engine of the options or the environment.

    Raises:
        RuntimeUnavailable: It does not answer.
    """
    address = options.docker_host or options.environ.get("DOCKER_HOST")
    if not address:
        address = await asyncio.to_thread(_usual_address, options.environ)
    engine = await connect(address, options.environ)
    return DockerRuntime(engine, options)


class DockerRuntime:
    """Containers of an engine that speaks Docker's API."""

    def __init__(self, engine: Engine, options: RuntimeOptions) -> None:
        self._engine = engine
        self._environ = options.environ
        self._news = FolderNews()
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
        spec.require_image()
        check_strings(spec, utf8_only=True)
        return await dockerlaunch.create(self._engine, spec, on_event)

    async def start(self, handle: ContainerHandle) -> Started:
        """Start the program; see `Runtime.start`."""
        return Started(addresses=addresses_of(await dockerlaunch.start(self._engine, handle)))

    async def output(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        """Yield all output; see `Runtime.output`.

        The engine hands output on by lines, or by 16 KiB of one: what a program writes without
        ending the line comes late.
        """
        if self._engine.is_podman:
            async for chunk in self._read_podman_log(handle):
                yield chunk
            return
        log_reader, outage = LogReader(self._engine, handle.native_id), Outage(longest_pause_s=10)
        while True:
            try:
                async for chunk in log_reader.read(follow=True):
                    outage.end()
                    yield chunk
                if await self._has_ended(handle):
                    async for chunk in log_reader.read(follow=False):
                        yield chunk
                    return
                # Else the engine restarts, and the container lives on.
            except (aiohttp.ClientError, RuntimeUnavailable) as error:
                outage.note(error)
            except RuntimeRefused as error:
                if error.status not in {404, 409}:
                    raise
                return  # it was removed
            await outage.pause()

    async def wait(self, handle: ContainerHandle) -> Exit:
        """Wait for the end; see `Runtime.wait`."""
        outage = Outage(longest_pause_s=10)
        was_away = False
        while True:
            try:
                if (ended := await self._wait_once(handle)) is not None:
                    return doubt_after_outage(ended) if was_away else ended
                outage.end()
            except RuntimeUnavailable as error:
                # The engine may be restarting while the container goes on.
                was_away = True
                outage.note(error)
            await outage.pause()

    async def signal(self, handle: ContainerHandle, number: int) -> None:
        """Signal the first process; see `Runtime.signal`."""
        try:
            name = signal.Signals(number).name
        except ValueError:  # a real-time signal; engines take its number
            name = str(number)
        try:
            await containercalls.call(
                self._engine, handle.native_id, "POST", "kill", params={"signal": name}
            )
        except ContainerNotFound:
            return
        except RuntimeRefused:
            if not await self._has_ended(handle):
                raise

    async def kill(self, handle: ContainerHandle) -> None:
        """End it all; see `Runtime.kill`."""
        inspected = await containercalls.find(self._engine, handle.native_id)
        if inspected is None or state_of(inspected) is not ContainerState.RUNNING:
            return
        await self.signal(handle, signal.SIGKILL)
        try:
            async with asyncio.timeout(_KILL_LIMIT_S):
                if inspected["State"].get("Paused"):  # it dies of it only when it goes on
                    with contextlib.suppress(RuntimeRefused):  # or it has died already
                        await containercalls.call(self._engine, handle.native_id, "POST", "unpause")
                await self.wait(handle)
        except TimeoutError as error:
            raise RuntimeRefused(
                f"container {handle.native_id} still runs {_KILL_LIMIT_S} s after SIGKILL"
            ) from error

    async def remove(self, handle: ContainerHandle) -> None:
        """Kill and forget; see `Runtime.remove`."""
        await containercalls.delete(self._engine, handle.native_id)

    async def list_owned(self, labels: Mapping[str, str]) -> list[Owned]:
        """Find ours; see `Runtime.list_owned`."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        filters = json.dumps({"label": [*wanted, ID_LABEL]})
        rows: list[dict[str, Any]] = await self._engine.call(
            "GET", "containers/json", params={"all": "1", "filters": filters}
        )
        found = [await containercalls.find(self._engine, str(row["Id"])) for row in rows]
        return [owned_of(inspected) for inspected in found if inspected is not None]

    async def processes(self, handle: ContainerHandle) -> Processes | None:
        """Find its processes; see `Runtime.processes`."""
        if not self._engine.address.startswith("unix://"):
            return None  # the pid may be one of another host
        inspected = await containercalls.find(self._engine, handle.native_id)
        return await asyncio.to_thread(processes_of, inspected) if inspected else None

    async def ping(self) -> None:
        """Ask for a sign of life; see `Answers.ping`."""
        await self._engine.call("GET", "version", limit_s=_PING_LIMIT_S)

    async def aclose(self) -> None:
        """Let go; see `Runtime.aclose`."""
        self._news.close()
        await self._engine.aclose()

    async def _read_podman_log(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        # The service may be restarting, which must not cost the task its output.
        inspected = await outlast(
            lambda: containercalls.find(self._engine, handle.native_id), patience_s=math.inf
        )
        if inspected is None:
            return
        reading = read_log(Path(inspected["LogPath"]), self.wait(handle), self._news)
        async with aclosing(reading) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _wait_once(self, handle: ContainerHandle) -> Exit | None:
        """Wait for the end; None if the engine answered without the container having ended."""
        answer: Json | None = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_LIMIT_S):
                    answer = await containercalls.call(
                        self._engine, handle.native_id, "POST", "wait", limit_s=None
                    )
            inspected = await containercalls.inspect(self._engine, handle.native_id)
        except ContainerNotFound:
            if answer is not None and "StatusCode" in answer:
                return Exit(code=int(answer["StatusCode"]))
            return Exit(code=None, reason="it was removed before its exit status was read")
        if state_of(inspected) is not ContainerState.EXITED:
            return None
        return await self._explain(exit_of(inspected), inspected)

    async def _explain(self, ended: Exit, inspected: Json) -> Exit:
        """Add the words of an init that found the program, but could not start it."""
        if ended.code not in CODES_OF_INIT or not inspected["HostConfig"].get("Init"):
            return ended
        try:
            if self._engine.is_podman:
                output = await asyncio.to_thread(read_log_end, Path(inspected["LogPath"]))
            else:
                output = await read_last_words(self._engine, inspected["Id"])
        except (aiohttp.ClientError, ContainerRuntimeError, OSError) as error:
            log.warning("cannot read why a program did not start: %s", error)
            return ended
        if not (words := refusal_in(output)):
            return ended
        return Exit(code=ended.code, reason=f"the program could not be started: {words}")

    async def _has_ended(self, handle: ContainerHandle) -> bool:
        inspected = await containercalls.find(self._engine, handle.native_id)
        return inspected is None or state_of(inspected) is ContainerState.EXITED


def _usual_address(environ: Mapping[str, str]) -> str:
    """Return where an engine of the system is, else one that this user runs for itself."""
    own_folder = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    own = Path(own_folder) / "docker.sock"
    if os.geteuid() != 0 and not os.access(_USUAL_SOCKET, os.R_OK | os.W_OK) and own.is_socket():
        return f"unix://{own}"
    return f"unix://{_USUAL_SOCKET}"
