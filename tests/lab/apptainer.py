"""Apptainer (or Singularity): the machine's own, else the one that the set-up keeps in a folder.

Most stable releases of Debian and Ubuntu have no such package. `tests/setup` then lays a small
Debian unstable with apptainer into a cache folder and puts a program `apptainer` beside it that
runs it there, in a mount namespace in which the machine's other folders keep their places.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.folders import remove_folder
from tests.lab.images import has_static_busybox, unpack_image
from tests.lab.processes import run


def cache_folder() -> Path:
    """Return where the set-up keeps what takes long to make."""
    return Path(os.environ.get("SHIPWAY_LAB_CACHE") or "/var/cache/shipway-lab")


def find_program() -> Path | None:
    """Return the program, the machine's own before the set-up's, or None."""
    for name in ("apptainer", "singularity"):
        if found := shutil.which(name):
            return Path(found)
    kept = cache_folder() / "bin/apptainer"
    return kept if kept.exists() else None


def missing() -> list[str]:
    """Return what is missing to run apptainer here."""
    found: list[str] = []
    if find_program() is None:
        found.append(f"apptainer or singularity on PATH or in {cache_folder()}/bin")
    if not has_static_busybox():
        found.append("a static busybox")
    return found


class Apptainer:
    """The program and an image file; nothing runs between calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = str(folder / "lab.sif")
        program = find_program()
        assert program is not None, "ask missing() first"
        self.program = program

    @property
    def environment(self) -> dict[str, str]:
        """PATH with the program on it."""
        return {"PATH": f"{self.program.parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"}

    def __enter__(self) -> Apptainer:
        root = unpack_image(self.folder / "root")
        self.run(["build", "--force", self.image, str(root)], limit_s=60)
        return self

    def __exit__(self, *_: object) -> None:
        remove_folder(self.folder)

    def run(
        self, arguments: Sequence[str], *, limit_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `apptainer --silent ARGUMENTS`."""
        argv = [str(self.program), "--silent", *arguments]
        return run(argv, environment=self.environment, limit_s=limit_s, check=check)
