"""No image: a task on the host's own files, behind bubblewrap's walls or as a plain process.

With bubblewrap the host is read-only, /tmp and /run are the task's own, it sees only its own
processes, and its files lie where it expects them. Without, see `plainprocess`. In a Slurm job, whose
user the task runs as, that user's home is the task's too.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from shipway_agent.errors import LaunchRefused, RuntimeUnavailable
from shipway_agent.runtimes.bubblewrap import NAMESPACES, TRIES, Bubblewrap, is_passing
from shipway_agent.runtimes.environment import check_strings, client_environment
from shipway_agent.runtimes.held import HeldContainers
from shipway_agent.runtimes.hostview import HostView
from shipway_agent.runtimes.localtmp import keep_mounts_from_removal
from shipway_agent.runtimes.options import RuntimeOptions
from shipway_agent.runtimes.plainprocess import plan_process
from shipway_agent.runtimes.shimfiles import ExitRecord, Launch
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

_PROBE_LIMIT_S = 10.0


async def open_runtime(options: RuntimeOptions) -> SandboxRuntime:
    """Open the sandbox, with bubblewrap if it works here and the options let it.

    Raises:
        RuntimeUnavailable: bubblewrap was asked for and does not work; the text says why.
    """
    walls: Bubblewrap | None = None
    reason = "as set"
    if options.sandbox_mode != "process":
        try:
            walls = await asyncio.to_thread(_probe, options)
        except RuntimeUnavailable as error:
            if options.sandbox_mode == "bubblewrap":
                raise
            reason = str(error)
    runtime = SandboxRuntime(options, walls, reason)
    await runtime.open()
    return runtime


class SandboxRuntime:
    """Runs tasks without an image; what image a spec names makes no difference."""

    name = "sandbox"

    def __init__(self, options: RuntimeOptions, walls: Bubblewrap | None, reason: str) -> None:
        self._walls = walls
        self._reason = reason
        self._home = _home(options)
        self._held = HeldContainers(self.name, options)

    @property
    def description(self) -> str:
        """How tasks are held apart."""
        if self._walls is not None:
            return f"no image, walls by bubblewrap ({self._walls.program})"
        return f"no image and no walls: plain processes ({self._reason})"

    async def open(self) -> None:
        """Get ready."""
        await self._held.open()

    async def pull(self, spec: ContainerSpec, on_event: OnEvent) -> None:
        """Fetch nothing, and say so."""
        if spec.image:
            text = f"the sandbox runs on this host's own files; image not used: {spec.image}"
            on_event(Event(kind=EventKind.PULL_SKIPPED, text=text))

    async def create(self, spec: ContainerSpec, on_event: OnEvent) -> ContainerHandle:
        """Make the container; see `Runtime.create`."""
        check_strings(spec)
        warnings: list[str] = []
        spec = keep_mounts_from_removal(spec, warnings.append)
        if self._home is not None:
            spec = replace(spec, environment={"HOME": str(self._home), **spec.environment})

        async def plan(folder: Path) -> Launch:
            plan_here = self._walls.plan if self._walls is not None else plan_process
            tree = spec.tree or folder / TREE
            return await asyncio.to_thread(plan_here, spec, folder, tree, warnings.append)

        handle = await self._held.create(spec, plan)
        for text in warnings:
            on_event(Event(kind=EventKind.WARNING, text=text))
        return handle

    async def start(self, handle: ContainerHandle) -> Started:
        """Start the program; see `Runtime.start`."""
        return await self._held.start(handle, _explain, is_passing=_is_passing, tries=TRIES)

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


def _probe(options: RuntimeOptions) -> Bubblewrap:
    """Try whether bwrap gives what we use of it on this host."""
    path = client_environment(options.environ)["PATH"]
    program = shutil.which("bwrap", path=path)
    if program is None:
        raise RuntimeUnavailable("bwrap is not on PATH; install the package bubblewrap")
    words = [program, *NAMESPACES, "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for attempt in range(1, TRIES + 1):
        problem = _find_problem([*words, sys.executable, "-I", "-S", "-c", ""])
        if problem is None:
            break
        if attempt == TRIES or not is_passing(problem):
            raise RuntimeUnavailable(f"{program} does not work here: {problem}")
    own_python = (Path(sys.prefix), Path(sys.base_prefix))
    view = HostView(
        expose=(*own_python, *options.sandbox_expose),
        hide=(options.state_dir, *options.sandbox_hide),
        home=_home(options),
    )
    return Bubblewrap(program=program, setpriv=shutil.which("setpriv", path=path), view=view)


def _find_problem(argv: Sequence[str]) -> str | None:
    """Run bwrap; what it said if it failed."""
    try:
        done = subprocess.run(  # noqa: S603
            argv,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end in {_PROBE_LIMIT_S} s"
    return done.stderr.decode(errors="replace").strip() if done.returncode != 0 else None


def _home(options: RuntimeOptions) -> Path | None:
    """Return the home that tasks share with us: none under a service, the user's own in a job."""
    home = options.environ.get("HOME")
    return Path(home) if options.tethered and home else None


def _is_passing(record: ExitRecord) -> bool:
    return is_passing(record.message)


def _explain(record: ExitRecord) -> LaunchRefused:
    """Say why a program did not run; bwrap's own exit status is 1 whatever the reason."""
    exit_code = record.code if record.code in {126, 127} else None
    if re.search(r"^bwrap: execvp ", record.message, re.MULTILINE):
        exit_code = 127 if "No such file" in record.message else 126
    message = re.sub(r"^(bwrap|setpriv): ", "", record.message) or "it ended before that"
    return LaunchRefused(f"cannot start the task: {message}", exit_code=exit_code)
