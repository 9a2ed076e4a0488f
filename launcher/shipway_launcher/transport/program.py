"""Run one program to its end, at little more cost than a shell's.

asyncio's own way of running a program makes a thread or a watcher, three transports and their
protocols for each; where a site submits job after job that is a good part of what sbatch takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO

log = logging.getLogger(__name__)

_BLOCK = 1 << 16
_KILL_AFTER_S = 2.0
_SOON = 4
"""How often to look for the end, which follows the last output within microseconds, before waiting."""


class Output:
    """What a program prints on one of its outputs; what goes over the limit is only counted."""

    def __init__(self, limit_bytes: int) -> None:
        """Begin with nothing."""
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self.total_bytes = 0

    def add(self, part: bytes) -> None:
        """Take what came."""
        self.total_bytes += len(part)
        if self.total_bytes <= self._limit_bytes:
            self._parts.append(part)

    @property
    def content(self) -> bytes:
        """All of it that was kept."""
        return b"".join(self._parts)


class Program:
    """A child in a process group of its own, and the pipes to it."""

    def __init__(
        self,
        argv: Sequence[str],
        environment: Mapping[str, str],
        stdin: bytes,
        output_limit_bytes: int,
    ) -> None:
        """Start it.

        Raises:
            OSError: It cannot be started.
            ValueError: A word or a variable holds a NUL, which no program can be given.
        """
        self._loop = asyncio.get_running_loop()
        self._process = subprocess.Popen(  # noqa: S603 (a list of words, no shell)
            argv,
            env=environment,
            cwd="/",
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.stdout, self.stderr = Output(output_limit_bytes), Output(output_limit_bytes)
        self._unsent = memoryview(stdin)
        self._closed = self._loop.create_future()
        self._open: set[IO[bytes]] = set()
        for pipe, output in (
            (self._process.stdout, self.stdout),
            (self._process.stderr, self.stderr),
        ):
            assert pipe is not None, "the program was started with pipes"
            self._watch(pipe)
            self._loop.add_reader(pipe.fileno(), self._read, pipe, output)
        if (pipe := self._process.stdin) is not None:
            self._watch(pipe)
            self._loop.add_writer(pipe.fileno(), self._feed, pipe)

    async def finish(self) -> int:
        """Wait until its outputs are closed and it has ended; return its exit status."""
        await self._closed
        for _ in range(_SOON):
            status = self._process.poll()
            if status is not None:
                return status
            await asyncio.sleep(0)
        return await self._exit()

    async def end(self) -> None:
        """Let go of it: close the pipes and, if it still runs, end it with its children."""
        for pipe in list(self._open):
            self._close(pipe)
        if self._process.returncode is None:  # not reaped, so the number is still its own
            await self._end_group()

    def _watch(self, pipe: IO[bytes]) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._open.add(pipe)

    def _read(self, pipe: IO[bytes], output: Output) -> None:
        try:
            part = os.read(pipe.fileno(), _BLOCK)
        except BlockingIOError:
            return
        if part:
            output.add(part)
        else:
            self._close(pipe)

    def _feed(self, pipe: IO[bytes]) -> None:
        try:
            self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent[:_BLOCK]) :]
        except BlockingIOError:
            return
        except OSError:  # it did not want all of it
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._close(pipe)

    def _close(self, pipe: IO[bytes]) -> None:
        self._loop.remove_reader(pipe.fileno())
        self._loop.remove_writer(pipe.fileno())
        pipe.close()
        self._open.discard(pipe)
        if not self._open and not self._closed.done():
            self._closed.set_result(None)

    async def _exit(self) -> int:
        """Wait for the end of the process itself."""
        try:
            handle = os.pidfd_open(self._process.pid)
        except OSError:  # Linux before 5.3, or a sandbox that forbids it
            return await asyncio.to_thread(self._process.wait)
        ended = asyncio.Event()
        try:
            self._loop.add_reader(handle, ended.set)
            await ended.wait()
        finally:
            self._loop.remove_reader(handle)
            os.close(handle)
        return self._process.wait()

    async def _end_group(self) -> None:
        """End the program and its children: TERM, a grace, KILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return
            except PermissionError:  # sudo runs as root; Slurm's commands end by their own limits
                log.warning(
                    "cannot end a program that runs as root", extra={"pid": self._process.pid}
                )
                threading.Thread(target=self._process.wait, daemon=True).start()
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_KILL_AFTER_S):
                    await self._exit()
                    return
