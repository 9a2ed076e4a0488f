"""This machine, as the user who runs this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway_launcher.errors import CommandTimedOut, TransportError
from shipway_launcher.transport.base import Command, Completed
from shipway_launcher.transport.tree import (
    Entry,
    FileStatus,
    erase_file,
    install_tree,
    read_part,
    remove_tree,
    size_of,
    status_of,
)

log = logging.getLogger(__name__)

_KILL_AFTER_S = 2.0


class LocalTransport:
    """Runs programs as children in their own process group, with nothing of our environment."""

    def __init__(self, user: str, environment: Mapping[str, str]) -> None:
        """Act as *user*, who must be the user of this process.

        Args:
            user: Name of the user.
            environment: What every program gets; nothing else comes from this process's own.
        """
        self._user = user
        self._environment = dict(environment)

    @property
    def user(self) -> str:
        return self._user

    @property
    def environment(self) -> Mapping[str, str]:
        """What every program gets."""
        return self._environment

    async def run(self, command: Command) -> Completed:
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                env={**self._environment, **command.environment},
                cwd="/",
                stdin=PIPE if command.stdin else DEVNULL,
                stdout=PIPE,
                stderr=PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise TransportError(f"cannot run {command.argv[0]}: {error}") from error
        try:
            async with asyncio.timeout(command.timeout_s):
                return await _finish(process, command)
        except TimeoutError as error:
            raise CommandTimedOut(command.argv, command.timeout_s) from error
        finally:
            if process.returncode is None:
                await _end_group(process)

    async def install(self, folder: Path, entries: Sequence[Entry]) -> None:
        try:
            await asyncio.to_thread(install_tree, folder, entries)
        except OSError as error:
            raise TransportError(f"cannot write {folder}: {error}") from error

    async def size(self, path: Path) -> int | None:
        try:
            return await asyncio.to_thread(size_of, path)
        except OSError as error:
            raise TransportError(f"cannot look at {path}: {error}") from error

    async def status(self, path: Path) -> FileStatus | None:
        try:
            return await asyncio.to_thread(status_of, path)
        except OSError as error:
            raise TransportError(f"cannot look at {path}: {error}") from error

    async def erase(self, path: Path) -> None:
        try:
            await asyncio.to_thread(erase_file, path)
        except OSError as error:
            raise TransportError(f"cannot empty {path}: {error}") from error

    async def read(self, path: Path, *, offset: int, limit: int) -> bytes:
        try:
            return await asyncio.to_thread(read_part, path, offset, limit)
        except OSError as error:
            raise TransportError(f"cannot read {path}: {error}") from error

    async def remove(self, folder: Path) -> None:
        try:
            await asyncio.to_thread(remove_tree, folder)
        except OSError as error:
            raise TransportError(f"cannot remove {folder}: {error}") from error


async def _finish(process: Process, command: Command) -> Completed:
    async with asyncio.TaskGroup() as group:
        stdout = group.create_task(_read(process.stdout, command))
        stderr = group.create_task(_read(process.stderr, command))
        if process.stdin is not None:
            group.create_task(_feed(process.stdin, command.stdin))
    status = await process.wait()
    for _, total in (stdout.result(), stderr.result()):
        if total > command.output_limit_bytes:
            raise TransportError(
                f"{command.argv[0]} printed {total} bytes, over the limit of"
                f" {command.output_limit_bytes}"
            )
    return Completed(exit_status=status, stdout=stdout.result()[0], stderr=stderr.result()[0])


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it did not want all of it
        stream.write(data)
        await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader | None, command: Command) -> tuple[bytes, int]:
    """Read to the end and count; what goes over the limit is read away."""
    assert stream is not None, "the program was started with pipes"
    parts: list[bytes] = []
    total = 0
    while part := await stream.read(1 << 16):
        total += len(part)
        if total <= command.output_limit_bytes:
            parts.append(part)
    return b"".join(parts), total


async def _end_group(process: Process) -> None:
    """End the program and its children: TERM, a grace, KILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        except PermissionError:  # sudo runs as root; Slurm's commands end by their own limits
            log.warning("cannot end a program that runs as root", extra={"pid": process.pid})
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_KILL_AFTER_S):
                await process.wait()
                return
