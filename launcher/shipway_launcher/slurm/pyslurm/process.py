"""The helper process: started when it is needed, ended when it hangs, missed by nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

_HELPER = Path(__file__).with_name("helper.py")
_BLOCK = 1 << 16
_LARGEST_REQUEST = 1 << 16
"""What a pipe takes while nobody reads it, so that a helper that hangs does not hold up its caller."""
_MOST_CALLS = 5000
"""The old interface of pyslurm never gives back the environment of a job, some two kilobytes."""

Answer = dict[str, Any]


class HelperLost(Exception):
    """The helper ended or gave no answer in time; what it was asked for may be done."""


class HelperGone(Exception):
    """The helper has ended before it was asked; nothing was done."""


class HelperUnusable(Exception):
    """There is no pyslurm that could be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Which pyslurm a helper has."""

    version: str
    interface: str


class Helper:
    """One running helper; one call at a time."""

    def __init__(self, python: str, environment: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            python: The Python that has pyslurm.
            environment: All of it, as sbatch would get it.

        Raises:
            HelperUnusable: It cannot be started.
        """
        self._loop = asyncio.get_running_loop()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `end`)
        try:
            self._process = subprocess.Popen(  # noqa: S603 (a list of words, no shell)
                [python, "-I", str(_HELPER)],
                env=environment,
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._said.close()
            raise HelperUnusable(f"cannot run {python}: {error}") from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._answers: IO[bytes] = self._process.stdout
        os.set_blocking(self._answers.fileno(), False)
        self._calls = 0

    @property
    def is_worn_out(self) -> bool:
        """Whether another one should take its place."""
        return self._calls >= _MOST_CALLS

    async def hello(self, limit_s: float) -> Hello:
        """Wait until it has imported pyslurm.

        Raises:
            HelperUnusable: It has none, or dies of it.
        """
        try:
            found = await self._answer(limit_s)
        except HelperLost as error:
            raise HelperUnusable(str(error)) from error
        if "unusable" in found:
            raise HelperUnusable(found["unusable"])
        return Hello(version=found["version"], interface=found["interface"])

    async def call(self, request: Mapping[str, object], limit_s: float) -> Answer:
        """Hand in a request and wait for its answer.

        Raises:
            HelperLost: There is none; this helper is of no use any more.
            HelperGone: The same, and it has not even got the request.
            ValueError: The request is too long to be handed in; nothing was done.
        """
        self._calls += 1
        line = json.dumps({**request, "call": self._calls}).encode() + b"\n"
        if len(line) > _LARGEST_REQUEST:
            raise ValueError(f"a request of {len(line)} bytes")
        unsent = memoryview(line)
        try:
            while unsent:
                unsent = unsent[os.write(self._requests.fileno(), unsent) :]
        except OSError:  # it acts on whole lines only
            raise HelperGone(await self._epitaph()) from None
        return await self._answer(limit_s)

    async def end(self) -> None:
        """End it, whatever it does."""
        self._requests.close()
        self._answers.close()
        self._said.close()
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)

    async def _answer(self, limit_s: float) -> Answer:
        try:
            async with asyncio.timeout(limit_s):
                line = await self._read_line()
        except TimeoutError:
            raise HelperLost(f"no answer within {limit_s:g} s") from None
        if not line.endswith(b"\n"):
            raise HelperLost(await self._epitaph())
        return cast("Answer", json.loads(line))

    async def _read_line(self) -> bytes:
        """Read to the end of a line; less at the end of the process."""
        fd, parts = self._answers.fileno(), list[bytes]()
        ended: asyncio.Future[None] = self._loop.create_future()

        def read() -> None:
            try:
                part = os.read(fd, _BLOCK)
            except BlockingIOError:
                return
            parts.append(part)
            if (not part or part.endswith(b"\n")) and not ended.done():
                ended.set_result(None)

        self._loop.add_reader(fd, read)
        try:
            await ended
        finally:
            self._loop.remove_reader(fd)
        return b"".join(parts)

    async def _epitaph(self) -> str:
        """Say how it ended and what it said last."""
        try:
            async with asyncio.timeout(1):
                status = await asyncio.to_thread(self._process.wait, 1)
        except (TimeoutError, subprocess.TimeoutExpired):
            return "it closed its answers"
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 2000))
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()[-5:]
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return f"it ended with {how}: {' / '.join(lines)}" if lines else f"it ended with {how}"
