"""What a way to act as some user on some machine can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shipway_launcher.transport.tree import Entry, FileStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One program to run, with everything that its result depends on."""

    argv: tuple[str, ...]
    timeout_s: float
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Beside what the transport gives every program (PATH, HOME, USER, …)."""
    stdin: bytes = b""
    is_repeatable: bool = False
    """Whether it does no harm to run it again if nobody knows how it ended."""
    output_limit_bytes: int = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """How a program ended."""

    exit_status: int
    """Negative: the number of the signal that ended it."""
    stdout: bytes
    stderr: bytes

    @property
    def stdout_text(self) -> str:
        """Standard output; what is no UTF-8 is kept as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def stderr_text(self) -> str:
        """Standard error for people to read; what is no UTF-8 is marked."""
        return self.stderr.decode("utf-8", "replace")


class Transport(Protocol):
    """Runs programs and moves files as one user. Every method may raise `TransportError`."""

    @property
    def user(self) -> str:
        """The Unix user who runs the programs and owns the files."""
        ...

    async def run(self, command: Command) -> Completed:
        """Run a program to its end.

        Raises:
            CommandTimedOut: It was stopped; it may have done its work nevertheless.
        """
        ...

    async def install(self, folder: Path, entries: Sequence[Entry]) -> None:
        """Make *folder* (mode 0700) with *entries* in it; nothing may be there yet."""
        ...

    async def size(self, path: Path) -> int | None:
        """Return the size of a regular file in bytes, None where there is none."""
        ...

    async def status(self, path: Path) -> FileStatus | None:
        """Return size and age of a regular file, None where there is none."""
        ...

    async def erase(self, path: Path) -> None:
        """Empty a regular file, for who writes at its end goes on; none there is no error."""
        ...

    async def read(self, path: Path, *, offset: int, limit: int) -> bytes:
        """Return up to *limit* bytes; fewer only at the end of the file."""
        ...

    async def remove(self, folder: Path) -> None:
        """Remove a folder with all that is in it, following no link and crossing no mount."""
        ...
