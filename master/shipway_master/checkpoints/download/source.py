"""Where the files of one checkpoint are read from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 1 << 20


class SourceError(Exception):
    """The files cannot be read; the text says which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file or folder of a checkpoint."""

    path: str
    """Below the checkpoint; a folder's ends with a slash."""
    size: int = 0
    mtime: int = 0
    """Seconds since 1970."""
    target: str | None = None
    """Set for a link, whose target stays inside the checkpoint."""

    @property
    def is_folder(self) -> bool:
        """Whether it only holds others."""
        return self.path.endswith("/")


class Source(Protocol):
    """The files of one checkpoint, in an order in which folders come before what is in them."""

    def entries(self) -> AsyncGenerator[Entry]:
        """List what there is.

        Raises:
            SourceError: There is nothing, or it cannot be read.
        """
        ...

    def read(self, entry: Entry) -> AsyncGenerator[bytes]:
        """Read a file of those listed; raises SourceError as `entries`."""
        ...


def is_inside(path: str) -> bool:
    """Whether a path from outside stays below the folder that it is put into."""
    parts = path.rstrip("/").split("/")
    return "\0" not in path and not any(part in ("", ".", "..") for part in parts)
