"""Enroot: images in squashfs files, unpacked for each task, or a container that its user made.

The host's /dev, processes and network are the container's too; /tmp is its own. A task is always the
user who runs enroot. Under a service each task gets a container of its own, from an image file or a
registry. In a Slurm job, as its users expect, it is the container that they made and named after
the image (`enroot create`); nothing is fetched there.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

from shipway_agent.errors import (
    ImageNotFound,
    LaunchRefused,
    RuntimeRefused,
    RuntimeUnavailable,
    SpecUnsupported,
)
from shipway_agent.runtimes.commands import run_command
from shipway_agent.runtimes.enrootforms import (
    configuration,
    container_name,
    first_script,
    mount_table,
)
from shipway_agent.runtimes.enrootimages import (
    SUFFIX,
    EnrootImages,
    ImageFile,
    MadeContainer,
    reference_of,
)
from shipway_agent.runtimes.environment import check_strings, client_environment
from shipway_agent.runtimes.held import HeldContainers
from shipway_agent.runtimes.imagefolder import ImageFolder
from shipway_agent.runtimes.localtmp import keep_mounts_from_removal
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.registryauth import find_registry_auth
from shipway_agent.runtimes.shimfiles import ExitRecord, Launch, PayloadKind
from shipway_agent.runtimes.shimstore import TREE
from shipway_agent.runtimes.spec import (
    Chunk,
    ContainerHandle,
    ContainerSpec,
    Event,
    EventKind,
    Exit,
    OnEvent,
    Owned,
    Processes,
    Started,
    Stream,
)
from shipway_agent.runtimes.users import open_way, user_to_become

_CALL_LIMIT_S = 60.0
_OLDEST = (3, 4)
_OWN_NAME = "task"
_IMAGES = "enroot-images"
"""Below the state folder: images that were fetched, and their layers."""
_of_the_user = re.compile(r"ENROOT_(?:(?:DATA|CACHE|CONFIG|TEMP)_PATH|MOUNT_HOME|RESTRICT_DEV)")
_configuration_file, _script_file, _mounts_file = "enroot.conf", "enroot.rc", "enroot.fstab"


async def open_runtime(options: RuntimeOptions) -> EnrootRuntime:
    """Open enroot, which must be on PATH.

    Raises:
        RuntimeUnavailable: It is not there, does not work, or is too old.
    """
    environment = client_environment(options.environ)
    program = shutil.which("enroot", path=environment["PATH"])
    if program is None:
        raise RuntimeUnavailable("enroot is not on PATH")
    own = await asyncio.to_thread(_own_places, environment, options)
    version = await run_command([program, "version"], own, limit_s=_CALL_LIMIT_S)
    usage = await run_command([program, "start", "--help"], own, limit_s=_CALL_LIMIT_S)
    for result in (version, usage):
        if result.status != 0:
            raise RuntimeUnavailable(f"{program} does not work here: {result.words}")
    text = version.stdout.decode(errors="replace").strip()
    numbers = re.fullmatch(r"v?(\d+)\.(\d+)(?:[.+~-].*)?", text)
    if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST:
        raise RuntimeUnavailable(f"{program} is version {text}; 3.4 or newer is needed")
    folder = ImageFolder(
        options.state_dir / _IMAGES,
        SUFFIX,
        limit_bytes=options.image_limit_bytes,
        find_used=_no_images,
        layers=Path(own["ENROOT_CACHE_PATH"]),
    )
    await asyncio.to_thread(folder.open)
    images = EnrootImages(program, own, folder=folder, image_root=options.image_root)
    runtime = EnrootRuntime(
        program, text, environment, options, images, can_part_networks=b"--net" in usage.stdout
    )
    await runtime.open()
    return runtime


class EnrootRuntime:
    """Containers that enroot runs for this user."""

    name = "enroot"

    def __init__(
        self,
        program: str,
        version: str,
        environment: Mapping[str, str],
        options: RuntimeOptions,
        images: EnrootImages,
        *,
        can_part_networks: bool,
    ) -> None:
        self._program = program
        self._version = version
        self._environment = environment
        self._options = options
        self._can_part_networks = can_part_networks
        self._images = images
        self._held = HeldContainers(self.name, options)

    @property
    def description(self) -> str:
        """Version and program."""
        return f"enroot {self._version} ({self._program})"

    async def open(self) -> None:
        """Get ready."""
        await self._held.open()

    async def pull(self, spec: ContainerSpec, on_event: OnEvent) -> None:
        """Look for the image, or fetch it; see `Runtime.pull`."""
        if self._options.tethered:
            self._say_found(await self._find(spec), on_event)
            if spec.force_pull:
                text = "enroot fetches nothing in a job; the image is used as it is here"
                on_event(Event(kind=EventKind.WARNING, text=text))
            return
        found = await asyncio.to_thread(self._images.find, spec, self._data_path(spec))
        if found is not None and (not spec.force_pull or (spec.image or "").startswith("/")):
            self._say_found(found, on_event)
            return
        name = reference_of(spec)
        auth = await find_registry_auth(name, spec.registry_auth, self._options.environ, on_event)
        await self._images.fetch(spec, auth, on_event)

    async def create(self, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
        """Make the container, unpacking its image if it gets its own; see `Runtime.create`."""
        check_strings(spec)
        warnings: list[str] = []
        spec = keep_mounts_from_removal(spec, warnings.append)
        self._check(spec, warnings)
        user = user_to_become(spec)

        async def plan(folder: Path) -> Launch:
            environment = self._client_environment(spec, folder, source)
            mark = f"[shipway {secrets.token_hex(16)}]\n"
            await asyncio.to_thread(_lay_out, spec, folder, mark, user, warnings)
            name = source.name if isinstance(source, MadeContainer) else _OWN_NAME
            if isinstance(source, ImageFile):
                await self._unpack(source.path, environment, user)
            return Launch(
                kind=PayloadKind.ENROOT,
                argv=(
                    *(self._program, "start", "--rw"),
                    *(["--net"] if spec.network_mode == "none" else []),
                    *("--conf", str(folder / _configuration_file)),
                    *("--rc", str(folder / _script_file)),
                    *("--", name, *(spec.entrypoint or ()), *spec.argv),
                ),
                environment=environment,
                folder="/",
                user=user,
                mark=mark,
            )

        async with self._images.using():
            source = await self._find(spec)
            handle = await self._held.create(spec, plan)
        for text in warnings:
            on_event(Event(kind=EventKind.WARNING, text=text))
        return handle

    async def start(self, handle: ContainerHandle) -> Started:
        """Start the program; see `Runtime.start`."""
        return await self._held.start(handle, _explain)

    def output(self, handle: ContainerHandle) -> AsyncIterator[Chunk]:
        """Yield all output; see `Runtime.output`."""
        return self._held.kept.read(handle)

    async def first_kept(self, handle: ContainerHandle) -> Mapping[Stream, int]:
        """Say where the output begins; see `KeepsOutput.first_kept`."""
        return await self._held.kept.first(handle)

    def output_from(
        self, handle: ContainerHandle, offsets: Mapping[Stream, int]
    ) -> AsyncIterator[Chunk]:
        """Yield the output from *offsets* on; see `KeepsOutput.output_from`."""
        return self._held.kept.read(handle, offsets)

    async def release_output(self, handle: ContainerHandle, offsets: Mapping[Stream, int]) -> None:
        """Give up what was delivered; see `KeepsOutput.release_output`."""
        await self._held.kept.release(handle, offsets)

    async def discard_output(self, handle: ContainerHandle) -> None:
        """Give up all of it; see `KeepsOutput.discard_output`."""
        await self._held.kept.discard(handle)

    async def wait(self, handle: ContainerHandle) -> Exit:
        """Wait for the end; see `Runtime.wait`."""
        return await self._held.wait(handle)

    async def signal(self, handle: ContainerHandle, number: int) -> None:
        """Signal the first process; see `Runtime.signal`."""
        await self._held.signal(handle, number)

    async def kill(self, handle: ContainerHandle) -> None:
        """End it all; see `Runtime.kill`."""
        await self._held.kill(handle)

    async def remove(self, handle: ContainerHandle) -> None:
        """Kill and forget; see `Runtime.remove`."""
        await self._held.remove(handle)

    async def list_owned(self, labels: Mapping[str, str]) -> list[Owned]:
        """Find ours; see `Runtime.list_owned`."""
        return await self._held.list_owned(labels)

    async def processes(self, handle: ContainerHandle) -> Processes | None:
        """Find its processes; see `Runtime.processes`."""
        return await self._held.processes(handle)

    async def aclose(self) -> None:
        """Let go; see `Runtime.aclose`."""
        await self._held.aclose()

    def _say_found(self, found: MadeContainer | ImageFile, on_event: OnEvent) -> None:
        text = f"image already found, skipping pull phase: {found.path}"
        on_event(Event(kind=EventKind.PULL_SKIPPED, text=text))

    async def _find(self, spec: ContainerSpec) -> MadeContainer | ImageFile:
        """Find what the container is made of, which must be here by now."""
        data_path = self._data_path(spec)
        wanted = replace(spec, force_pull=spec.force_pull and not self._options.tethered)
        found = await asyncio.to_thread(self._images.find, wanted, data_path)
        if found is None:
            place = data_path / container_name(spec.image or "")
            raise ImageNotFound(
                f"image {spec.image}: No such file or directory: {place}; make it with"
                f" `enroot import` and `enroot create --name {place.name}`"
            )
        return found

    def _check(self, spec: ContainerSpec, warnings: list[str]) -> None:
        if spec.network_mode == "none" and not self._can_part_networks:
            raise SpecUnsupported(f"network mode none: enroot {self._version} cannot do that")
        if spec.add_capabilities:
            warnings.append("added capabilities have no effect with enroot")
        if spec.drop_capabilities and os.geteuid() == 0 and user_to_become(spec) is None:
            warnings.append("enroot drops no capabilities of root, which are its container's alone")

    def _variables_of_the_user(self, spec: ContainerSpec) -> dict[str, str]:
        """Return what of the task's environment is for enroot: nothing, where we act for others."""
        if not self._options.tethered:
            return {}
        return {name: value for name, value in spec.environment.items() if _of_the_user.match(name)}

    def _data_path(self, spec: ContainerSpec) -> Path:
        """Return where enroot looks for the containers that its user made."""
        variables = {**self._environment, **self._variables_of_the_user(spec)}
        if path := variables.get("ENROOT_DATA_PATH"):
            return Path(path)
        share = variables.get("XDG_DATA_HOME") or f"{variables.get('HOME', '')}/.local/share"
        return Path(share) / "enroot"

    def _client_environment(
        self, spec: ContainerSpec, folder: Path, source: MadeContainer | ImageFile
    ) -> dict[str, str]:
        own = folder / "enroot"
        is_made = isinstance(source, MadeContainer)
        variables = {
            **self._environment,
            "ENROOT_LOGIN_SHELL": "no",  # which would change variables and speak
            "ENROOT_CACHE_PATH": str(own / "cache"),
            **self._variables_of_the_user(spec),
            "ENROOT_RUNTIME_PATH": str(own / "run"),
            "ENROOT_DATA_PATH": str(source.path.parent if is_made else own / "data"),
        }
        variables.setdefault("HOME", str(own))
        return variables

    async def _unpack(
        self, image: Path, environment: Mapping[str, str], user: tuple[int, int] | None
    ) -> None:
        argv = [self._program, "create", "--name", _OWN_NAME, "--", str(image)]
        result = await run_command(argv, environment, limit_s=None, user=user)
        if result.status != 0:
            raise RuntimeRefused(f"enroot create: {result.words}", status=result.status)


def _lay_out(
    spec: ContainerSpec,
    folder: Path,
    mark: str,
    user: tuple[int, int] | None,
    warnings: list[str],
) -> None:
    """Write what enroot reads, for none but the user who runs it."""
    tree = spec.tree or folder / TREE
    fstab = folder / _mounts_file
    contents = {
        fstab: mount_table(spec, folder, tree, warnings.append),
        folder / _configuration_file: configuration(spec, fstab),
        folder / _script_file: first_script(spec, mark),
    }
    own = folder / "enroot"
    own.mkdir(mode=0o700)
    for path, content in contents.items():
        path.touch(mode=0o600)
        path.write_bytes(content)
    if user is not None:
        open_way(folder, user[0])
        for path in (own, *contents):
            os.chown(path, *user)


async def _no_images() -> list[Path]:
    """Return which images containers need: they were unpacked for them."""
    return []


def _own_places(environment: Mapping[str, str], options: RuntimeOptions) -> dict[str, str]:
    """Say where enroot keeps what is no container: not in a home, which a service may not have.

    It makes its folders whatever it is asked. In a job, layers and the like are its user's.
    """
    folder = options.state_dir / "enroot"
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    places = {
        "ENROOT_RUNTIME_PATH": str(folder / ".run"),
        "ENROOT_DATA_PATH": str(folder / ".data"),
        "ENROOT_CACHE_PATH": str(folder / ".cache"),
    }
    if not options.tethered:
        places["ENROOT_CACHE_PATH"] = str(options.state_dir / _IMAGES / ".cache")
    return {**environment, **places}


def _explain(record: ExitRecord) -> LaunchRefused:
    """Say why a program did not run, in the words of enroot or of the container's shell."""
    lines = record.message.splitlines()
    told = [line for line in lines if line.startswith(("[ERROR]", "enroot-"))]
    words = "; ".join(told) if told else (lines[-1] if lines else "enroot ended before it ran")
    words = re.sub(
        r"^/[a-z0-9/.]+: (?:line )?(?:[0-9]+: )?(?:exec: )?(?:line [0-9]+: )?", "", words
    )
    exit_code = record.code if record.code in {126, 127} else None
    return LaunchRefused(f"starting container: {words}", exit_code=exit_code)
