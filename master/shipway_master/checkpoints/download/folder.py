"""A checkpoint in a folder that the master sees.

Users own what is in there, and it may change at any time: nothing is followed out of the folder of
the checkpoint, neither by links nor by what is put in place of a folder meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import posixpath
import stat
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, TypeVar

from shipway_master.checkpoints.download.source import (
    CHUNK_BYTES,
    Entry,
    SourceError,
    is_inside,
)

log = logging.getLogger(__name__)

Result = TypeVar("Result")

_ANSWER_S = 60

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking: a file may have become a pipe that nobody writes to.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FolderSource:
    """The folder *name* in *base*; *base* itself may be a link."""

    def __init__(self, base: Path, name: str, *, pool: Executor | None = None) -> None:
        """Read in threads of *pool*: those of a file system that hangs never come back."""
        self._base, self._name, self._pool = base, name, pool

    async def entries(self) -> AsyncGenerator[Entry]:
        """List what there is, each folder in the order of names; pipes and the like are left out."""
        waiting = [""]
        while waiting:
            entries = await self._do(self._look_into, waiting.pop())
            waiting += [one.path for one in reversed(entries) if one.is_folder]
            for entry in entries:
                yield entry

    async def read(self, entry: Entry) -> AsyncGenerator[bytes]:
        """Read a file."""
        file = await self._do(self._open_file, entry.path)
        try:
            while chunk := await self._do(self._read, file, entry.path):
                yield chunk
        finally:
            os.close(file)

    async def _do(self, function: Callable[..., Result], *arguments: Any) -> Result:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await loop.run_in_executor(self._pool, function, *arguments)
        except TimeoutError as error:
            problem = f"{self._base} has not answered the master in {_ANSWER_S} s"
            raise SourceError(problem) from error

    def _look_into(self, folder: str) -> list[Entry]:
        try:
            opened = self._open_folder(folder)
            try:
                with os.scandir(opened) as found:
                    names = sorted(one.name for one in found)
                entries = [_describe(opened, folder, name) for name in names]
            finally:
                os.close(opened)
        except OSError as error:
            raise self._failure(folder, error) from error
        return [one for one in entries if one is not None]

    def _open_folder(self, path: str) -> int:
        opened = os.open(self._base, _FOLDER & ~os.O_NOFOLLOW)
        for part in (self._name, *path.split("/")):
            if part:
                try:
                    below = os.open(part, _FOLDER, dir_fd=opened)
                finally:
                    os.close(opened)
                opened = below
        return opened

    def _open_file(self, path: str) -> int:
        if not is_inside(path):
            raise SourceError(f"{path!r} is no path in a checkpoint")
        folder, name = posixpath.split(path)
        try:
            opened = self._open_folder(folder)
            try:
                file = os.open(name, _FILE, dir_fd=opened)
            finally:
                os.close(opened)
        except OSError as error:
            raise self._failure(path, error) from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise SourceError(f"{self._base / self._name / path} is no file any more")
        return file

    def _read(self, file: int, path: str) -> bytes:
        try:
            return os.read(file, CHUNK_BYTES)
        except OSError as error:
            raise self._failure(path, error) from error

    def _failure(self, path: str, error: OSError) -> SourceError:
        place = self._base / self._name / path
        return SourceError(f"the master cannot read {place}: {error.strerror}")


def _describe(opened: int, folder: str, name: str) -> Entry | None:
    """Describe what is called *name* in the opened *folder*; None: it does not belong."""
    path = f"{folder}{name}"
    found = os.stat(name, dir_fd=opened, follow_symlinks=False)
    mtime = int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        return Entry(path=f"{path}/", mtime=mtime)
    if stat.S_ISREG(found.st_mode):
        return Entry(path=path, size=found.st_size, mtime=mtime)
    if stat.S_ISLNK(found.st_mode):
        target = os.readlink(name, dir_fd=opened)
        if _stays(folder, target):
            return Entry(path=path, mtime=mtime, target=target)
    log.warning("left out of a checkpoint: it is no file, or leads out of it", extra={"path": path})
    return None


def _stays(folder: str, target: str) -> bool:
    joined = posixpath.normpath(posixpath.join(folder, target))
    return not target.startswith("/") and joined.split("/")[0] != ".."
