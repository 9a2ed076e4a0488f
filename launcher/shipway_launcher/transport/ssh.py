"""Another machine by SSH, as the user who is logged in there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from shipway_launcher.errors import LinkLost
from shipway_launcher.transport.base import Command, Completed
from shipway_launcher.transport.frames import Message
from shipway_launcher.transport.link import Link
from shipway_launcher.transport.session import FarFacts
from shipway_launcher.transport.tree import Entry, FileStatus
from shipway_launcher.transport.wire import pack

_TRANSFER_S = 60.0
_FILE_TIMEOUT_S = 300.0
_SLOWEST_BYTES_PER_S = 32 << 10

T = TypeVar("T")


class SshTransport:
    """Runs programs and moves files through the far end of a link.

    What was under way when the link is lost is not repeated if that could do something twice:
    programs only if they say that they may be, file operations always.
    """

    def __init__(
        self, user: str, link: Link, environment: Callable[[FarFacts], Mapping[str, str]]
    ) -> None:
        """Act as *user*, as whom the link logs in.

        Args:
            user: Name of the user there.
            link: To the other machine.
            environment: What every program gets, made of what that machine is like.
        """
        self._user, self._link, self._environment = user, link, environment

    @property
    def user(self) -> str:
        return self._user

    async def run(self, command: Command) -> Completed:
        facts = await self._link.facts()
        head = {
            "do": "run",
            "argv": list(command.argv),
            "timeout_s": command.timeout_s,
            "environment": {**self._environment(facts), **command.environment},
            "output_limit_bytes": command.output_limit_bytes,
        }
        limit_s = command.timeout_s + _TRANSFER_S

        async def ask() -> Message:
            return await self._link.call(head, command.stdin, limit_s=limit_s)

        answer = await (self._again(ask) if command.is_repeatable else ask())
        length = answer.head["stdout_bytes"]
        return Completed(
            exit_status=answer.head["exit_status"],
            stdout=answer.body[:length],
            stderr=answer.body[length:],
        )

    async def install(self, folder: Path, entries: Sequence[Entry]) -> None:
        data = pack(entries)
        try:
            await self._ask("install", folder, data)
        except LinkLost:  # who can tell how much of it is there
            await self.remove(folder)
            await self._ask("install", folder, data)

    async def size(self, path: Path) -> int | None:
        found: int | None = (await self._again(lambda: self._ask("size", path))).head["size"]
        return found

    async def status(self, path: Path) -> FileStatus | None:
        found = (await self._again(lambda: self._ask("status", path))).head["found"]
        return None if found is None else FileStatus(size=found[0], modified_at=found[1])

    async def erase(self, path: Path) -> None:
        await self._again(lambda: self._ask("erase", path))

    async def read(self, path: Path, *, offset: int, limit: int) -> bytes:
        answer = await self._again(lambda: self._ask("read", path, offset=offset, limit=limit))
        return answer.body

    async def remove(self, folder: Path) -> None:
        await self._again(lambda: self._ask("remove", folder))

    async def _ask(self, what: str, path: Path, body: bytes = b"", **more: Any) -> Message:
        head = {"do": what, "path": str(path), **more}
        limit_s = _FILE_TIMEOUT_S + len(body) / _SLOWEST_BYTES_PER_S
        return await self._link.call(head, body, limit_s=limit_s)

    @staticmethod
    async def _again(ask: Callable[[], Awaitable[T]]) -> T:
        """Ask, and once more if the link was lost meanwhile: the link that replaces it may do."""
        try:
            return await ask()
        except LinkLost:
            return await ask()
