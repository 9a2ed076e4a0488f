"""A disk of a few megabytes that can be filled up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.lab.processes import run


class Disk:
    """A small file system of its own, mounted on a folder below the lab's."""

    def __init__(self, folder: Path, *, size_kib: int) -> None:
        """Mount on *folder*, which is made when it is not there."""
        self.folder = folder
        self._size_kib = size_kib
        self._filler = folder / "filler"

    def mount(self) -> None:
        """Mount it, empty."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", f"size={self._size_kib}k,mode=755", "lab", self.folder])

    def unmount(self) -> None:
        """Take it away with all that is on it; programs that still use it keep it."""
        run(["umount", "-l", self.folder], check=False)

    def fill(self) -> None:
        """Write until there is no byte left."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        filler.write(b"\0" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def free(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    @property
    def free_bytes(self) -> int:
        """The room that is left."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize
