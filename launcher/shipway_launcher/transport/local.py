"""This machine, as the user who runs this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway_launcher.errors import CommandTimedOut, TransportError
from shipway_launcher.transport.base import Command, Completed
from shipway_launcher.transport.program import Program
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
            program = Program(
                command.argv,
                {**self._environment, **command.environment},
                command.stdin,
                command.output_limit_bytes,
            )
        except (OSError, ValueError) as error:
            raise TransportError(f"cannot run {command.argv[0]}: {error}") from error
        try:
            async with asyncio.timeout(command.timeout_s):
                status = await program.finish()
        except TimeoutError as error:
            raise CommandTimedOut(command.argv, command.timeout_s) from error
        finally:
            await program.end()
        for output in (program.stdout, program.stderr):
            if output.total_bytes > command.output_limit_bytes:
                raise TransportError(
                    f"{command.argv[0]} printed {output.total_bytes} bytes, over the limit of"
                    f" {command.output_limit_bytes}"
                )
        return Completed(
            exit_status=status, stdout=program.stdout.content, stderr=program.stderr.content
        )

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
