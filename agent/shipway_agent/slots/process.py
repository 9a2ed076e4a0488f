"""Programs that ask a driver, which may hang, crash or talk nonsense without harm to the agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

LINE_LIMIT_BYTES = 1 << 20
_KILL_WAIT_S = 1.0


class StuckProcesses:
    """Processes that not even KILL ended: the driver holds them.

    Each is known by what it asked about. Who asks the same again looks here before, so that they
    do not become more with every look.
    """

    def __init__(self) -> None:
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    def add(self, subject: str, process: asyncio.subprocess.Process) -> None:
        """Remember one."""
        self._processes[subject] = process

    def find(self, subject: str) -> int | None:
        """Return the process id of the one that asked about *subject*; None if it has ended."""
        return self.find_all(subject).get(subject)

    def find_all(self, beginning: str) -> dict[str, int]:
        """Return the process ids of those whose subject begins so, by their subjects."""
        for subject, process in list(self._processes.items()):
            if process.returncode is not None:
                del self._processes[subject]
        return {
            subject: process.pid
            for subject, process in self._processes.items()
            if subject.startswith(beginning)
        }


class Helper:
    """One running program."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        subject: str,
    ) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.subject = subject
        """What it asks about just now."""
        self._process = process

    async def wait(self, limit_s: float) -> str:
        """Wait for its end; returns in words how it came."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._process.wait()
        status = self._process.returncode
        if status is None:
            return f"did not end within {limit_s:g} s"
        if status < 0:
            return f"crashed ({_signal_name(-status)})"
        return f"ended with status {status}"


@asynccontextmanager
async def helper(
    argv: Sequence[str], environ: Mapping[str, str], *, subject: str, stuck: StuckProcesses
) -> AsyncGenerator[Helper]:
    """Run a program in a process group of its own, and end it on the way out.

    One that cannot be ended is left behind in *stuck*; nobody waits for it.

    Raises:
        OSError: It cannot be started.
    """
    async with _pipe() as (stdout, stdout_end), _pipe() as (stderr, stderr_end):
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout_end,
                stderr=stderr_end,
                env=dict(environ),
                start_new_session=True,
            )
        finally:
            os.close(stdout_end)
            os.close(stderr_end)
        running = Helper(process, stdout, stderr, subject)
        try:
            yield running
        finally:
            await _end(process)
            if process.returncode is None:
                stuck.add(running.subject, process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the group: it may have members left when its leader has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILL_WAIT_S):
            await process.wait()


@asynccontextmanager
async def _pipe() -> AsyncGenerator[tuple[asyncio.StreamReader, int]]:
    """Make a pipe of our own: asyncio's is closed only when its last writer is gone."""
    read_end, write_end = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
    )
    try:
        yield reader, write_end
    finally:
        transport.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
