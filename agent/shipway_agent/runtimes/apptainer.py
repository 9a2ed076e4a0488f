"""Apptainer, or Singularity, whichever is there.

The host's /dev and network are the container's too, as users of these programs expect; /tmp is its
own, and so is what it writes elsewhere, in memory. Under a service it has its own processes and no
home; in a Slurm job it shares both with the job, whose user it is. `--containall` is not used: its
/dev lacks the fabric's devices, and its /tmp is too small to work in.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from shipway_agent.errors import (
    ContainerRuntimeError,
    LaunchRefused,
    RuntimeUnavailable,
)
from shipway_agent.runtimes.apptainerforms import (
    Dialect,
    client_variables,
    container_environment,
    is_file,
    parse_dialect,
    resolve_image,
    run_arguments,
)
from shipway_agent.runtimes.apptainerimages import ApptainerImages
from shipway_agent.runtimes.commands import run_command
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.environment import check_strings, client_environment
from shipway_agent.runtimes.held import HeldContainers
from shipway_agent.runtimes.imagefolder import ImageFolder
from shipway_agent.runtimes.imagenames import parse_image_name
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
    RegistryAuth,
    Started,
    Stream,
)
from shipway_agent.runtimes.users import open_way, user_to_become

_CALL_LIMIT_S = 60.0
_IMAGE = "image"
_no_runscript = b"There is no runscript defined for this container"


async def open_runtime(options: RuntimeOptions) -> ApptainerRuntime:
    """Open apptainer or singularity, the first on PATH.

    Raises:
        RuntimeUnavailable: There is none, or it is too old.
    """
    environment = client_environment(options.environ)
    path = environment["PATH"]
    program = shutil.which("apptainer", path=path) or shutil.which("singularity", path=path)
    if program is None:
        raise RuntimeUnavailable("neither apptainer nor singularity is on PATH")
    version = await run_command([program, "--version"], environment, limit_s=_CALL_LIMIT_S)
    usage = await run_command([program, "exec", "--help"], environment, limit_s=_CALL_LIMIT_S)
    for result in (version, usage):
        if result.status != 0:
            raise RuntimeUnavailable(f"{program} does not work here: {result.words}")
    version_text = version.stdout.decode(errors="replace").strip()
    if b"--no-eval" not in usage.stdout:
        raise RuntimeUnavailable(
            f"{program} is {version_text!r}, which changes variables on their way into a container;"
            " Apptainer 1.1 or Singularity 3.10 is needed"
        )
    dialect = parse_dialect(version_text, shows_home=options.tethered)
    runtime = ApptainerRuntime(program, version_text, dialect, options)
    await runtime.open()
    return runtime


class ApptainerRuntime:
    """Containers that apptainer runs for this user."""

    name = "apptainer"

    def __init__(
        self, program: str, version: str, dialect: Dialect, options: RuntimeOptions
    ) -> None:
        self._program = program
        self._version = version
        self._dialect = dialect
        self._options = options
        self._environment = client_environment(options.environ)
        self._held = HeldContainers(self.name, options)
        self._images = (
            None
            if options.tethered
            else ApptainerImages(
                program,
                dialect,
                ImageFolder(
                    options.state_dir / "apptainer-images",
                    ".sif",
                    limit_bytes=options.image_limit_bytes,
                    find_used=self._find_used_images,
                ),
            )
        )

    @property
    def description(self) -> str:
        """Version and program."""
        return f"{self._version} ({self._program})"

    async def open(self) -> None:
        """Get ready."""
        await self._held.open()
        if self._images is not None:
            await self._images.open()

    async def pull(self, spec: ContainerSpec, on_event: OnEvent) -> None:
        """Look for the image, or fetch it; in a job `start` does that, into its user's cache."""
        image = await asyncio.to_thread(resolve_image, spec, self._options.image_root)
        found = await self._find(spec)
        if self._images is not None and self._images.can_fetch(image):
            if found == image or spec.force_pull:
                auth = await self._registry_auth(spec, image, on_event)
                environment = {**self._environment, **client_variables(spec, auth, self._dialect)}
                await self._images.fetch(image, environment, on_event, auth=auth)
                return
            image = found
        if is_file(image):
            text = f"image already found, skipping pull phase: {image}"
            on_event(Event(kind=EventKind.PULL_SKIPPED, text=text))
        else:
            text = f"image is fetched when the container starts: {image}"
            on_event(Event(kind=EventKind.INFO, text=text))

    async def create(self, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
        """Make the container; see `Runtime.create`."""
        check_strings(spec, utf8_only=True)
        warnings: list[str] = []
        spec = keep_mounts_from_removal(spec, warnings.append)
        image = await self._find(spec)
        verb = await self._verb(spec, image)
        auth = await self._registry_auth(spec, image, on_event)
        variables = container_environment(spec, self._dialect)

        async def plan(folder: Path) -> Launch:
            tree = spec.tree or folder / TREE
            arguments = await asyncio.to_thread(
                run_arguments, spec, folder, tree, self._dialect, warnings.append
            )
            user = user_to_become(spec)
            if user is not None:
                await asyncio.to_thread(open_way, folder, user[0])
            words = (*(spec.entrypoint or ()), *spec.argv)
            return Launch(
                kind=PayloadKind.APPTAINER,
                argv=(self._program, "--quiet", verb, *arguments, image, *words),
                environment={
                    **self._environment,
                    **client_variables(spec, auth, self._dialect),
                    **variables,
                },
                folder="/",  # the folder it is started in would be mounted
                user=user,
            )

        handle = await self._held.create(spec, plan, details={_IMAGE: image})
        for text in warnings:
            on_event(Event(kind=EventKind.WARNING, text=text))
        return handle

    async def start(self, handle: ContainerHandle) -> Started:
        """Fetch the image if need be, and start the program; see `Runtime.start`.

        Raises:
            ImageNotFound: The image does not exist or is hidden from us.
            PullFailed: It did not arrive.
        """
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

    async def _find(self, spec: ContainerSpec) -> str:
        """Return the image: a file wherever there is one."""
        image = await asyncio.to_thread(resolve_image, spec, self._options.image_root)
        if self._images is None:
            return image
        return await asyncio.to_thread(self._images.kept, image)

    async def _find_used_images(self) -> list[Path]:
        """Return the images of all containers: one that runs reads its image all along."""
        return [Path(one.details.get(_IMAGE, "")) for one in await self._held.store.list({})]

    async def _verb(self, spec: ContainerSpec, image: str) -> str:
        """Return `run`, which honours the image's own entry point, or `exec` where it has none.

        `run` on an image without a run script prints a sentence and succeeds.
        """
        if spec.entrypoint is not None:
            return "exec"
        if not is_file(image):
            return "run"
        result = await run_command(
            [self._program, "inspect", "--runscript", image],
            self._environment,
            limit_s=_CALL_LIMIT_S,
        )
        has_script = result.status == 0 and result.stdout.strip()
        return "run" if has_script and _no_runscript not in result.stdout else "exec"

    async def _registry_auth(
        self, spec: ContainerSpec, image: str, on_event: OnEvent
    ) -> RegistryAuth | None:
        if not image.startswith("docker://"):
            return None
        if spec.registry_auth is None and self._options.tethered:
            return None  # the program looks by itself where its user has logged in
        name = parse_image_name(image.removeprefix("docker://"))
        return await find_registry_auth(name, spec.registry_auth, self._options.environ, on_event)


def _explain(record: ExitRecord) -> ContainerRuntimeError:
    """Say why a program did not run, from the last words of apptainer."""
    fatal = re.findall(r"FATAL:\s*(.*)", record.message)
    words = str(fatal[-1]) if fatal else record.message or "apptainer ended before its program ran"
    unreachable = re.search(r"Unable to handle (docker://(\S+)) uri: (.*)", words)
    if unreachable:
        name = parse_image_name(unreachable[2])
        return pull_error(name, unreachable[3])
    exit_code: int | None = None
    if re.search("executable file not found|no such file", words):
        exit_code = 127
    elif re.search("permission denied|exec format", words):
        exit_code = 126
    return LaunchRefused(f"starting container: {words}", exit_code=exit_code)
