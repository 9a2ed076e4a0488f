"""Podman by its command line: as root or not, without a service, inside a Slurm job or not.

A shim holds `podman start --attach`, and with it the task's output; what became of the container
only podman knows, and it is asked by the container's own id.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

from shipway_agent.errors import (
    ContainerNotFound,
    ContainerRuntimeError,
    LaunchRefused,
    RuntimeRefused,
    RuntimeUnavailable,
)
from shipway_agent.runtimes import shimcontrol
from shipway_agent.runtimes.devices import without_nvidia
from shipway_agent.runtimes.docker import DockerRuntime
from shipway_agent.runtimes.dockerforms import (
    Json,
    addresses_of,
    exit_of,
    host_addresses,
    processes_of,
    state_of,
)
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.engine import connect
from shipway_agent.runtimes.environment import check_strings, client_environment
from shipway_agent.runtimes.imagenames import parse_image_name
from shipway_agent.runtimes.localtmp import keep_mounts_from_removal
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.podmancli import NameTaken, PodmanCli
from shipway_agent.runtimes.podmanforms import (
    create_arguments,
    environment_file_text,
    named_variables,
)
from shipway_agent.runtimes.registryauth import auth_file, find_registry_auth
from shipway_agent.runtimes.shimcontrol import ShimControl, Tether
from shipway_agent.runtimes.shimfiles import READ_ON, ExitRecord, Launch, PayloadKind
from shipway_agent.runtimes.shimreader import KeptOutput
from shipway_agent.runtimes.shimstore import TREE, HeldContainer, ShimStore
from shipway_agent.runtimes.shimstore import state_of as shim_state_of
from shipway_agent.runtimes.spec import (
    ID_LABEL,
    Address,
    Chunk,
    ContainerHandle,
    ContainerId,
    ContainerSpec,
    ContainerState,
    Event,
    EventKind,
    Exit,
    OnEvent,
    Owned,
    Processes,
    Runtime,
    Started,
    Stream,
)
from shipway_common.files import write_atomic

log = logging.getLogger(__name__)

_START_POLL_INTERVAL_S = 0.05
_KILL_LIMIT_S = 20.0
_CLEAN_UP_LIMIT_S = 30.0
_never = "0001-01-01T"
_transport = re.compile(r"(docker-archive|docker-daemon|oci-archive|oci|dir|containers-storage):")


async def open_runtime(options: RuntimeOptions) -> Runtime:
    """Open Podman: its socket if the options name one, else its program, else the usual socket.

    Raises:
        RuntimeUnavailable: Neither works.
    """
    if options.podman_socket:
        return await _open_socket(options)
    try:
        return await _open_command(options)
    except RuntimeUnavailable as command_error:
        try:
            return await _open_socket(options)
        except RuntimeUnavailable as socket_error:
            raise RuntimeUnavailable(f"{command_error}; {socket_error}") from command_error


async def open_if_served(options: RuntimeOptions) -> Runtime:
    """Open Podman only where its socket answers: that is how an administrator says it is wanted.

    Raises:
        RuntimeUnavailable: The socket does not answer.
    """
    try:
        runtime = await _open_socket(options)
    except RuntimeUnavailable as error:
        hint = "; for its program, name it: container_runtime: podman"
        raise RuntimeUnavailable(f"{error}{'' if options.podman_socket else hint}") from error
    if options.podman_socket:
        return runtime
    try:
        command = await _open_command(options)
    except RuntimeUnavailable:
        return runtime
    await runtime.aclose()
    return command  # which can give GPUs as well


class PodmanRuntime:
    """Containers that the program podman runs for this user."""

    name = "podman"

    def __init__(self, cli: PodmanCli, options: RuntimeOptions, version: str) -> None:
        self._cli = cli
        self._options = options
        self._version = version
        self._store = ShimStore(options.state_dir / self.name)
        self._kept = KeptOutput(self._store.folder)
        self._control = ShimControl(
            Tether() if options.tethered else None, in_units=options.in_units
        )

    @property
    def description(self) -> str:
        """Version and program."""
        rights = "as root" if os.geteuid() == 0 else "without root"
        return f"podman {self._version} by {self._cli.program}, {rights}"

    async def open(self) -> None:
        """Get ready."""
        await self._store.open()

    async def pull(self, spec: ContainerSpec, on_event: OnEvent) -> None:
        """Make the image available; see `Runtime.pull`."""
        image = spec.require_image()
        if _transport.match(image):
            text = f"image is read when the container is made: {image}"
            on_event(Event(kind=EventKind.PULL_SKIPPED, text=text))
            return
        name = parse_image_name(image)
        is_here = await self._cli.has_image(image)
        if is_here and not spec.force_pull:
            text = f"image already found, skipping pull phase: {image}"
            on_event(Event(kind=EventKind.PULL_SKIPPED, text=text))
            return
        if is_here:
            text = f"image present, but force_pull_image is set; checking for updates: {image}"
        else:
            text = f"image not found, pulling image: {image}"
        auth = await find_registry_auth(name, spec.registry_auth, self._options.environ, on_event)
        on_event(Event(kind=EventKind.PULL_BEGAN, text=text))
        with tempfile.TemporaryDirectory(dir=self._options.state_dir) as folder:
            path: Path | None = None
            if auth is not None:
                path = Path(folder) / "auth.json"
                await asyncio.to_thread(write_atomic, path, auth_file(auth, name))
            result = await self._cli.pull(image, str(path) if path else None, _slowly(on_event))
        if result.status != 0:
            raise pull_error(name, result.words, auth)

    async def create(self, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
        """Make the container; see `Runtime.create`."""
        spec.require_image()
        check_strings(spec, utf8_only=True)
        async with self._store.making(spec) as folder:
            native_id = await self._create(spec, folder, on_event)
            try:
                if _may_lack_work_dir(spec, folder / TREE):
                    await self._cli.make_folder(native_id, spec.work_dir)
                await self._store.save(
                    HeldContainer(
                        id=spec.id,
                        labels=spec.labels,
                        ports=spec.ports,
                        details={"native_id": native_id},
                    ),
                    self._launch(native_id),
                )
            except BaseException:
                await self._clean_up(native_id)
                raise
        return ContainerHandle(container_id=spec.id, native_id=native_id)

    async def start(self, handle: ContainerHandle) -> Started:
        """Start the program; see `Runtime.start`."""
        folder = self._store.folder(handle.container_id)
        container = await self._store.get(handle.container_id)
        await self._control.launch(folder)
        while True:
            held_state, _, ended = await asyncio.to_thread(shim_state_of, folder)
            inspected = await self._cli.find(handle.native_id)
            if inspected is None:
                raise ContainerNotFound(f"podman does not know container {handle.native_id}")
            if not str(inspected["State"].get("StartedAt", _never)).startswith(_never):
                return Started(addresses=_addresses(container, inspected))
            if ended is not None:
                raise _refusal(ended)
            if held_state is ContainerState.EXITED:
                raise RuntimeUnavailable(f"container {handle.native_id}: {shimcontrol.LOST}")
            if held_state is ContainerState.CREATED:
                await shimcontrol.check_being_started(folder)
            await asyncio.sleep(_START_POLL_INTERVAL_S)

    def output(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        """Yield all output; see `Runtime.output`."""
        return self._kept.read(handle)

    async def first_kept(self, handle: ContainerHandle) -> Mapping[Stream, int]:
        """Say where the output begins; see `KeepsOutput.first_kept`."""
        return await self._kept.first(handle)

    def output_from(
        self, handle: ContainerHandle, offsets: Mapping[Stream, int]
    ) -> AsyncIterator[Chunk]:
        """Yield the output from *offsets* on; see `KeepsOutput.output_from`."""
        return self._kept.read(handle, offsets)

    async def release_output(self, handle: ContainerHandle, offsets: Mapping[Stream, int]) -> None:
        """Give up what was delivered; see `KeepsOutput.release_output`."""
        await self._kept.release(handle, offsets)

    async def discard_output(self, handle: ContainerHandle) -> None:
        """Give up all of it; see `KeepsOutput.discard_output`."""
        await self._kept.discard(handle)

    async def wait(self, handle: ContainerHandle) -> Exit:
        """Wait for the end; see `Runtime.wait`."""
        folder = self._store.folder(handle.container_id)
        _, started, _ = await asyncio.to_thread(shim_state_of, folder)
        if started is not None:
            await shimcontrol.process_gone(started.shim)
        while True:
            inspected = await self._cli.find(handle.native_id)
            if inspected is None or state_of(inspected) is not ContainerState.RUNNING:
                _, _, ended = await asyncio.to_thread(shim_state_of, folder)
                return _exit(inspected, ended)
            await self._cli.wait(handle.native_id)  # its shim was killed, but it runs

    async def signal(self, handle: ContainerHandle, number: int) -> None:
        """Signal the first process; see `Runtime.signal`."""
        try:
            await self._cli.kill(handle.native_id, number)
        except RuntimeRefused:
            inspected = await self._cli.find(handle.native_id)
            if inspected is not None and state_of(inspected) is ContainerState.RUNNING:
                raise

    async def kill(self, handle: ContainerHandle) -> None:
        """End it all; see `Runtime.kill`."""
        folder = self._store.folder(handle.container_id)
        await self._control.settle(folder)
        try:
            async with asyncio.timeout(_KILL_LIMIT_S):
                await self._kill_until_gone(handle, folder)
        except TimeoutError as error:
            raise RuntimeRefused(
                f"container {handle.native_id} still runs {_KILL_LIMIT_S} s after SIGKILL"
            ) from error

    async def remove(self, handle: ContainerHandle) -> None:
        """Kill and forget; see `Runtime.remove`."""
        await self.kill(handle)
        await self._cli.remove(handle.native_id)
        await self._store.remove(handle.container_id, self._cli.remove_files)

    async def list_owned(self, labels: Mapping[str, str]) -> list[Owned]:
        """Find ours; see `Runtime.list_owned`."""
        held = {one.details.get("native_id"): one for one in await self._store.list(labels)}
        native_ids = dict.fromkeys([*await self._cli.list_ids(labels), *held])
        found = [await self._look(str(native_id), held.get(native_id)) for native_id in native_ids]
        return [owned for owned in found if owned is not None]

    async def processes(self, handle: ContainerHandle) -> Processes | None:
        """Find its processes; see `Runtime.processes`."""
        inspected = await self._cli.find(handle.native_id)
        return await asyncio.to_thread(processes_of, inspected) if inspected else None

    async def ping(self) -> None:
        """Ask for a sign of life; see `Answers.ping`."""
        await self._cli.info()

    async def aclose(self) -> None:
        """Let go; see `Runtime.aclose`."""
        self._kept.close()
        await self._control.aclose()

    async def _create(self, spec: ContainerSpec, folder: Path, on_event: OnEvent) -> str:
        """Have podman make the container; returns its id there."""
        warnings: list[str] = []
        spec = replace(spec, environment=without_nvidia(spec))
        spec = keep_mounts_from_removal(spec, warnings.append)
        file = folder / "environment"
        arguments = await asyncio.to_thread(
            create_arguments, spec, spec.tree or folder / TREE, file, warnings.append
        )
        variables = {name: spec.environment[name] for name in named_variables(spec)}
        await asyncio.to_thread(write_atomic, file, environment_file_text(spec))
        for name in _names(spec):
            try:
                native_id = await self._cli.create(["--name", name, *arguments], variables)
            except NameTaken:
                continue
            except BaseException:
                # Also when cancelled: podman may have made it before it was killed.
                await self._clean_up(name)
                raise
            await asyncio.to_thread(file.unlink)
            for text in warnings:
                on_event(Event(kind=EventKind.WARNING, text=text))
            return native_id
        raise RuntimeRefused(f"creating container: the name {spec.name} is in use")

    def _launch(self, native_id: str) -> Launch:
        return Launch(
            kind=PayloadKind.PODMAN,
            argv=(self._cli.program, "start", "--attach", "--sig-proxy=false", native_id),
            environment=self._cli.environment,
            folder="/",
            kill_argv=(self._cli.program, "kill", "--signal", "KILL", native_id),
            tethered=self._options.tethered,
            output_limit_bytes=self._options.output_limit_bytes,
            output_patience_s=self._options.output_patience_s,
        )

    async def _kill_until_gone(self, handle: ContainerHandle, folder: Path) -> None:
        while True:
            held_state, started, _ = await asyncio.to_thread(shim_state_of, folder)
            inspected = await self._cli.find(handle.native_id)
            state = state_of(inspected) if inspected is not None else ContainerState.EXITED
            if state is ContainerState.RUNNING:
                if started is not None:  # Podman sees the end only once the output was read
                    started.shim.send(READ_ON)
                await self.signal(handle, signal.SIGKILL)
                await self._cli.wait(handle.native_id)
            elif state is ContainerState.EXITED or held_state is not ContainerState.RUNNING:
                break
            else:  # podman is just starting it
                await asyncio.sleep(_START_POLL_INTERVAL_S)
        if started is not None:
            await shimcontrol.process_gone(started.shim)  # its client ends with the container

    async def _look(self, native_id: str, held: HeldContainer | None) -> Owned | None:
        inspected = await self._cli.find(native_id)
        if inspected is None and held is None:
            return None
        labels: Mapping[str, str] = (
            held.labels if held is not None else (inspected or {})["Config"]["Labels"]
        )
        container_id = ContainerId(labels[ID_LABEL])
        state = state_of(inspected) if inspected is not None else ContainerState.EXITED
        ended: ExitRecord | None = None
        if held is not None:
            _, _, ended = await asyncio.to_thread(shim_state_of, self._store.folder(held.id))
            if state is ContainerState.CREATED and ended is not None:
                state = ContainerState.EXITED  # podman refused to start it
        is_running = inspected is not None and state is ContainerState.RUNNING
        return Owned(
            handle=ContainerHandle(container_id=container_id, native_id=native_id),
            container_id=container_id,
            state=state,
            exit=_exit(inspected, ended) if state is ContainerState.EXITED else None,
            labels=dict(labels),
            addresses=_addresses(held, inspected) if is_running and inspected else (),
        )

    async def _clean_up(self, name: str) -> None:
        try:
            async with asyncio.timeout(_CLEAN_UP_LIMIT_S):
                await self._cli.remove(name)
        except (ContainerRuntimeError, TimeoutError) as error:
            log.warning(
                "cannot remove a container that was not finished",
                extra={"container_name": name, "reason": str(error)},
            )


def _names(spec: ContainerSpec) -> list[str]:
    """Return the names to try: the spec's own, and one that nobody else has."""
    hint = re.sub(r"[^a-zA-Z0-9_.-]", "-", spec.name)[:200].lstrip("_.-")
    unique = f"{hint or 'shipway'}-{uuid.uuid4().hex[:12]}"
    return [hint, unique] if hint else [unique]


def _may_lack_work_dir(spec: ContainerSpec, tree: Path) -> bool:
    """Say whether only the image can have the working folder, which podman does not make."""
    path = spec.work_dir
    is_bound = (spec.tree or tree) / path.lstrip("/")
    return (
        bool(path.strip("/"))
        and not is_bound.is_dir()
        and not any(Path(path).is_relative_to(mount.target) for mount in spec.mounts)
    )


def _exit(inspected: Json | None, ended: ExitRecord | None) -> Exit:
    """Return how a container ended: podman's word, or what its client left."""
    if inspected is not None and state_of(inspected) is not ContainerState.CREATED:
        return exit_of(inspected)
    if ended is None:
        return Exit(code=None, reason="it was removed before its exit status was read")
    reason = ended.message if inspected is not None else ""
    return Exit(code=ended.code, out_of_memory=ended.out_of_memory, reason=reason)


def _addresses(held: HeldContainer | None, inspected: Json) -> tuple[Address, ...]:
    if inspected["HostConfig"].get("NetworkMode") == "host":
        return host_addresses(held.ports if held is not None else ())
    return addresses_of(inspected)


def _refusal(ended: ExitRecord) -> LaunchRefused:
    words = ended.message or f"podman start ended with status {ended.code}"
    exit_code: int | None = None
    if re.search("not found|no such file", words, re.IGNORECASE):
        exit_code = 127
    elif re.search("permission denied|exec format", words, re.IGNORECASE):
        exit_code = 126
    return LaunchRefused(f"starting container: {words}", exit_code=exit_code)


def _slowly(on_event: OnEvent, interval_s: float = 1.0) -> OnEvent:
    """Give on what comes, but no more often than every *interval_s* seconds."""
    told_at = -interval_s

    def give(event: Event) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= interval_s:
            told_at = time.monotonic()
            on_event(event)

    return give


async def _open_command(options: RuntimeOptions) -> PodmanRuntime:
    environment = client_environment(options.environ)
    program = shutil.which("podman", path=environment["PATH"])
    if program is None:
        raise RuntimeUnavailable("podman is not on PATH")
    if os.geteuid() != 0:
        await asyncio.to_thread(_give_runtime_folder, environment, options.state_dir)
    cli = PodmanCli(program, environment)
    try:
        info = await cli.info()
    except ContainerRuntimeError as error:
        raise RuntimeUnavailable(f"{program} does not work here: {error}") from error
    runtime = PodmanRuntime(cli, options, str(info.get("version", {}).get("Version", "?")))
    await runtime.open()
    return runtime


def _give_runtime_folder(environment: dict[str, str], state_dir: Path) -> None:
    """Point podman at a folder of ours where the login service has made none, as on many nodes."""
    folder = environment.get("XDG_RUNTIME_DIR")
    if not folder or not os.access(folder, os.W_OK | os.X_OK):
        own = state_dir / "podman-run"
        try:
            own.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RuntimeUnavailable(f"podman's folder cannot be made: {error}") from error
        environment["XDG_RUNTIME_DIR"] = str(own)


async def _open_socket(options: RuntimeOptions) -> DockerRuntime:
    address = options.podman_socket or options.environ.get("CONTAINER_HOST")
    if not address:
        # A service of a user is not told of the folder that its log-in would have.
        own = options.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
        folder = "/run" if os.geteuid() == 0 else own
        address = f"unix://{folder}/podman/podman.sock"
    if not address.startswith("unix://"):
        raise RuntimeUnavailable(f"{address}: Podman's service is used on the same host only")
    return DockerRuntime(await connect(address, options.environ), options)
