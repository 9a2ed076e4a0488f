"""Run a container program, such as podman, to its end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from shipway_agent.errors import RuntimeUnavailable

_ERROR_WORDS = ("Error:", "FATAL:", "[ERROR]")  # of podman, apptainer, enroot


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """What a command did."""

    status: int
    """Exit status; negative for the signal that ended it."""
    stdout: bytes
    stderr: str

    @property
    def words(self) -> str:
        """What it said of an error: the lines that say so, else the last of stderr."""
        lines = [line for line in self.stderr.splitlines() if line.startswith(_ERROR_WORDS)]
        text = "\n".join(lines) or self.stderr.strip()
        return text[-2000:] or f"exit status {self.status}"


async def run_command(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    limit_s: float | None,
    stdin: bytes = b"",
    user: tuple[int, int] | None = None,
) -> CommandResult:
    """Run *argv* with nothing but *environment*; when cancelled or too slow, end its whole group.

    Args:
        argv: The command.
        environment: All that it gets.
        limit_s: How long it may take, in seconds.
        stdin: What it can read.
        user: uid and gid to become.

    Raises:
        RuntimeUnavailable: It cannot be started, or takes longer than *limit_s* seconds.
    """
    uid, gid = user or (None, None)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=environment,
            user=uid,
            group=gid,
            extra_groups=None if user is None else [],
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise RuntimeUnavailable(f"cannot run {argv[0]}: {error}") from error
    try:
        async with asyncio.timeout(limit_s):
            stdout, stderr = await process.communicate(stdin or None)
    except TimeoutError as error:
        raise RuntimeUnavailable(f"{' '.join(argv[:2])} did not end in {limit_s} s") from error
    finally:
        await _end(process)
    assert process.returncode is not None
    return CommandResult(
        status=process.returncode, stdout=stdout, stderr=stderr.decode(errors="replace")
    )


async def follow_command(
    argv: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[str | CommandResult]:
    """Run *argv* and yield the lines of its stderr as they come, and its result as the last."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    told = ""
    try:
        rest = b""
        while piece := await process.stderr.read(65536):
            *lines, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                text = line.decode(errors="replace").strip()
                if text:
                    told = f"{told}{text}\n"[-8192:]
                    yield text
        told += rest.decode(errors="replace")
        await process.wait()
    finally:
        await _end(process)
    assert process.returncode is not None
    yield CommandResult(status=process.returncode, stdout=b"", stderr=told)


async def peek_command(
    argv: Sequence[str], environment: Mapping[str, str], *, limit_s: float
) -> bytes:
    """Run *argv*, return the beginning of its stdout, and end it."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(limit_s):
            return await process.stdout.read(512)
    except TimeoutError as error:
        raise RuntimeUnavailable(f"{' '.join(argv[:2])} said nothing in {limit_s} s") from error
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
