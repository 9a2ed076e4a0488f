"""Folders for services: short enough for Unix sockets, and removed with what is mounted in them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path


def new_folder(service: str) -> Path:
    """Make an empty folder with a short path, which others may enter (mode 755)."""
    folder = Path(tempfile.mkdtemp(prefix=f"lab-{service}-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


def remove_folder(folder: Path) -> None:
    """Unmount whatever is mounted below *folder*, then remove it."""
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, timeout=10, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
