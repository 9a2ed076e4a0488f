"""Start, watch, signal and end what a shim holds, by nothing but the files in its folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from shipway_agent.errors import ContainerNotFound, RuntimeRefused, RuntimeUnavailable
from shipway_agent.runtimes.environment import DEFAULT_PATH
from shipway_agent.runtimes.processes import (
    ProcessIdentity,
    ProcessStat,
    all_processes,
    boot_id,
    descendants,
    kill_all,
)
from shipway_agent.runtimes.shimfiles import (
    LOG,
    ExitRecord,
    StartedRecord,
)
from shipway_agent.runtimes.shimstore import is_being_started, state_of
from shipway_agent.runtimes.shimunit import as_unit
from shipway_agent.runtimes.spec import ContainerState, Exit

_POLL_INTERVAL_S = 0.05
_LAUNCH_POLL_INTERVAL_S, _LAUNCH_POLL_LIMIT_S = 0.01, 0.25
_LAUNCH_LIMIT_S = 60.0
_SETTLE_LIMIT_S = 10.0
_KILL_LIMIT_S = 15.0

LOST = "the process that held the container was killed, so nobody knows its exit status"


class Tether:
    """A pipe whose far end shims watch: it ends when this process does, however that happens."""

    def __init__(self) -> None:
        self.stdin, self._own_end = os.pipe()

    def close(self) -> None:
        """Cut it; what hangs on it is killed."""
        os.close(self.stdin)
        os.close(self._own_end)


class ShimControl:
    """Launches shims; remembers those whose launch is under way."""

    def __init__(self, tether: Tether | None, *, in_units: bool = False) -> None:
        self._tether = tether
        self._in_units = in_units
        self._launches: dict[Path, asyncio.Task[None]] = {}

    async def launch(self, folder: Path) -> None:
        """Have the shim of *folder* start its program; one that was started before is no error.

        A cancelled call leaves the launch running; `settle` waits for it.

        Raises:
            RuntimeUnavailable: The shim itself could not do its work.
        """
        task = self._launches.get(folder)
        if task is None:
            task = asyncio.create_task(
                asyncio.to_thread(_launch, folder, self._tether, in_unit=self._in_units)
            )
            self._launches[folder] = task
            task.add_done_callback(lambda _: self._launches.pop(folder, None))
        await asyncio.shield(task)

    async def settle(self, folder: Path) -> None:
        """Wait until no launch of *folder* is under way, ours or a former agent's."""
        task = self._launches.get(folder)
        if task is not None:
            await asyncio.wait([task])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_LIMIT_S):
                while await asyncio.to_thread(is_being_started, folder):  # noqa: ASYNC110
                    await asyncio.sleep(_LAUNCH_POLL_INTERVAL_S)

    async def aclose(self) -> None:
        """Wait for launches that are under way, and let go."""
        if self._launches:
            await asyncio.wait(list(self._launches.values()))
        if self._tether is not None:
            self._tether.close()
            self._tether = None


async def wait_running(folder: Path) -> ExitRecord | None:
    """Wait until the task's program runs, or has ended; its exit record in the latter case.

    Raises:
        RuntimeUnavailable: Its shim died before it had started anything.
    """
    interval_s = _LAUNCH_POLL_INTERVAL_S
    while True:
        state, started, ended = await asyncio.to_thread(state_of, folder)
        if state is ContainerState.EXITED:
            return ended or ExitRecord(code=None, signal=None, launched=False, message=LOST)
        if started is not None and started.payload is not None:
            return None
        if state is ContainerState.CREATED:
            await check_being_started(folder)
        await asyncio.sleep(interval_s)
        interval_s = min(interval_s * 1.5, _LAUNCH_POLL_LIMIT_S)  # images can take an hour


async def check_being_started(folder: Path) -> None:
    """Make sure that a shim is at work on a container that was launched, or has been.

    Raises:
        RuntimeUnavailable: It died before it had started anything.
    """

    def is_dead() -> bool:
        # In this order: a shim that is gone starts nothing any more.
        return not is_being_started(folder) and state_of(folder)[0] is ContainerState.CREATED

    if await asyncio.to_thread(is_dead):
        raise RuntimeUnavailable(f"the shim of {folder} died before it had started anything")


async def wait_exit(folder: Path) -> Exit:
    """Wait for the end of a started container."""
    state, started, _ = await asyncio.to_thread(state_of, folder)
    if state is ContainerState.CREATED:
        raise ContainerNotFound(f"there is no started container in {folder}")
    if started is not None:
        await process_gone(started.shim)
        await _guard_gone(started)
    _, _, ended = await asyncio.to_thread(state_of, folder)
    return exit_of(ended)


def exit_of(record: ExitRecord | None) -> Exit:
    """Return what a shim wrote, or did not write, as the end of a container."""
    if record is None:
        return Exit(code=None, reason=LOST)
    return Exit(
        code=record.code,
        signal=record.signal,
        out_of_memory=record.out_of_memory,
        reason="" if record.launched else record.message or "its program was not started",
    )


async def send_signal(folder: Path, number: int) -> None:
    """Send a signal to the task's first process, or to what will become it."""
    state, started, _ = await asyncio.to_thread(state_of, folder)
    if state is ContainerState.RUNNING and started is not None:
        (started.payload or started.main).send(number)


async def kill(folder: Path) -> None:
    """End a container with all its processes; they are gone when this returns.

    Raises:
        RuntimeRefused: Some process does not go.
    """
    _, started, _ = await asyncio.to_thread(state_of, folder)
    if started is None:
        return
    started.shim.send(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILL_LIMIT_S):
            await process_gone(started.shim)
    await _guard_gone(started)
    await _sweep(started)


async def process_gone(identity: ProcessIdentity, *, interval_s: float = 0.1) -> None:
    """Wait until a process has ended.

    Args:
        identity: Of any process, not only a child.
        interval_s: How often to look where the kernel cannot tell us (before 5.3), or where the
            process is a zombie that its parent does not reap.
    """
    with contextlib.suppress(OSError):  # it is gone, or there are no pidfds: the loop decides
        descriptor = os.pidfd_open(identity.pid)
        try:
            if identity.is_alive:
                await _readable(descriptor)
        finally:
            os.close(descriptor)
    while identity.is_alive:  # noqa: ASYNC110 (another process's end gives us no event)
        await asyncio.sleep(interval_s)


async def _guard_gone(started: StartedRecord) -> None:
    """Wait until a killed shim's guard has ended what was left; not forever, for it may not be able to."""
    if started.guard is not None and not started.shim.is_alive:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_LIMIT_S):
                await process_gone(started.guard)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _sweep(started: StartedRecord) -> None:
    """End what a shim that works leaves to nobody: all below it, or all that its death orphaned."""
    for _ in range(100):
        left = await asyncio.to_thread(_leftovers, started)
        if not left:
            return
        await asyncio.to_thread(kill_all, left)
        await asyncio.sleep(_POLL_INTERVAL_S)
    names = ", ".join(
        f"{stat.pid} ({stat.state})" for stat in await asyncio.to_thread(_leftovers, started)
    )
    raise RuntimeRefused(f"these processes of the container do not end, even by SIGKILL: {names}")


def _leftovers(started: StartedRecord) -> list[ProcessStat]:
    if started.shim.is_alive:
        return [stat for stat in descendants(started.shim.pid) if stat.state != "Z"]
    if started.main.boot_id != boot_id():
        return []  # nothing outlives the kernel
    return [
        stat
        for stat in all_processes()
        if stat.session in started.sessions
        and stat.start_ticks >= started.main.start_ticks
        and stat.state not in "ZX"
    ]


def _launch(folder: Path, tether: Tether | None, *, in_unit: bool) -> None:
    """Start the shim, unless there was one, with nothing of our own environment.

    Returns when it has started its program, or was refused.
    """
    if state_of(folder)[0] is not ContainerState.CREATED:
        return
    argv = [sys.executable, "-I", "-m", "shipway_agent.shim", str(folder)]
    if in_unit:
        argv = as_unit(argv, folder.name, DEFAULT_PATH)
    try:
        done = subprocess.run(  # noqa: S603
            argv,
            env={"PATH": DEFAULT_PATH},
            cwd="/",
            stdin=tether.stdin if tether else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=_LAUNCH_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeUnavailable(f"cannot start the shim of {folder}: {error}") from error
    if done.returncode != 0:
        if is_being_started(folder) or state_of(folder)[0] is not ContainerState.CREATED:
            return  # by a unit of this name, which a former agent had asked for
        text = done.stderr.decode(errors="replace").strip()
        if in_unit:
            text += _problem_of(folder)
        raise RuntimeUnavailable(
            f"the shim of {folder} ended with status {done.returncode} (see {LOG} there): {text}"
        )


def _problem_of(folder: Path) -> str:
    """Return what a shim that broke has left, where nobody could hear it."""
    try:
        return ": " + (folder / LOG).read_text(encoding="utf-8", errors="replace")[-2000:]
    except FileNotFoundError:
        return ""
