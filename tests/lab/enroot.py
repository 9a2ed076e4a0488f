"""Enroot: the machine's own, else a stand-in that does what Enroot 3.5.0 was seen to do.

No distribution packages it. The stand-in (`enroot_stand_in.py`) runs tasks for real, in namespaces
of their own; its images are tars, for squashfs has its own programs that few machines have.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from tests.lab.folders import remove_folder
from tests.lab.images import has_static_busybox, image_tar, unpack_image
from tests.lab.processes import run

STAND_IN = Path(__file__).with_name("enroot_stand_in.py")


def is_real() -> bool:
    """Say whether the machine has Enroot itself, and what makes images for it."""
    return shutil.which("enroot") is not None and shutil.which("mksquashfs") is not None


def missing() -> list[str]:
    """Return what is missing to run enroot here."""
    found: list[str] = []
    if not is_real() and subprocess.run(["unshare", "-Um", "true"], check=False).returncode != 0:
        found.append("user namespaces")
    if not has_static_busybox():
        found.append("a static busybox")
    return found


class Enroot:
    """The program and an image file; nothing runs between calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = str(folder / "lab.sqsh")
        self._bin = folder / "bin"

    @property
    def environment(self) -> dict[str, str]:
        """PATH with the program on it."""
        return {"PATH": f"{self._bin}:{os.environ.get('PATH', '/usr/bin:/bin')}"}

    def __enter__(self) -> Enroot:
        self._bin.mkdir()
        if is_real():
            root = unpack_image(self.folder / "root")
            run(["mksquashfs", str(root), self.image, "-all-root", "-no-progress"], limit_s=60)
        else:
            Path(self.image).write_bytes(image_tar())
            program = self._bin / "enroot"
            # Other users run it too, and cannot reach everybody's Python and checkout.
            python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
            shutil.copy(STAND_IN, self._bin / "stand_in.py")
            program.write_text(f'#!/bin/sh\nexec {python} -I {self._bin}/stand_in.py "$@"\n')
            program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        return self

    def __exit__(self, *_: object) -> None:
        remove_folder(self.folder)
