"""Folders for services: short enough for Unix sockets, and removed with what is mounted in them.

A test run that is killed cannot clean up. So each folder names the run that made it, and a later
run ends and removes what runs that are gone have left.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab.processes import end, is_alive

_PARENT = Path("/tmp")
_OWNER = "lab-owner"


def new_folder(service: str) -> Path:
    """Make an empty folder with a short path, which others may enter (mode 755)."""
    folder = Path(tempfile.mkdtemp(prefix=f"lab-{service}-", dir=_PARENT))
    folder.chmod(0o755)
    (folder / _OWNER).write_text(str(os.getpid()))
    return folder


def remove_folder(folder: Path) -> None:
    """Unmount whatever is mounted below *folder*, then remove it."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, timeout=60, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers() -> None:
    """End and remove the services of test runs that are gone."""
    for owner in _PARENT.glob(f"lab-*/{_OWNER}"):
        try:
            is_gone = not is_alive(int(owner.read_text()))
        except (OSError, ValueError):  # being made or removed at this moment
            continue
        if is_gone:
            end(processes_of(owner.parent))
            remove_folder(owner.parent)


def processes_of(folder: Path) -> Iterator[int]:
    """Find the processes that have *folder* in their arguments or their environment."""
    mark = f"{folder}/".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:  # ended meanwhile, or not ours to read
            continue
        if mark in text:
            yield int(process.name)


def command_of(pid: int) -> bytes:
    """Return the arguments of a process, each ended by a NUL; nothing if it has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
