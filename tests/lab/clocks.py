"""A wall clock that can be stepped for one process alone."""

from __future__ import annotations

import mmap
import shutil
import struct
from pathlib import Path

from tests.lab.processes import run

_SOURCE = Path(__file__).with_name("stepped_clock.c")


def missing() -> list[str]:
    """Return what stepping a clock needs and this machine lacks."""
    return [] if shutil.which("gcc") else ["a C compiler (gcc)"]


class Clock:
    """The time of day that some processes see; their monotonic clock is the true one."""

    def __init__(self, folder: Path, name: str) -> None:
        """Keep the step, 0 at first, in a file of *folder*, beside the library that adds it."""
        self._file = folder / f"{name}.clock"
        self._file.write_bytes(bytes(mmap.PAGESIZE))
        self._library = folder / "stepped_clock.so"
        if not self._library.exists():
            run(["gcc", "-O1", "-Wall", "-shared", "-fPIC", "-o", self._library, _SOURCE, "-ldl"])

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to live by this clock."""
        return {"LD_PRELOAD": str(self._library), "STEPPED_CLOCK": str(self._file)}

    def step(self, offset_s: int) -> None:
        """Show the true time plus *offset_s* from now on, in whatever lives by this clock."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", offset_s))
