"""Files that survive a crash of their writer."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from pathlib import Path

# The random end is what `mkstemp` makes.
_aside = re.compile(r"\..+\.[a-z0-9_]{8}")


def write_atomic(
    path: Path, data: bytes, *, mode: int = 0o600, group_id: int | None = None
) -> None:
    """Replace *path* whole: write aside, fsync, rename, fsync the folder.

    A reader sees the old content or the new, never a part; after a crash one of the two is there.
    Blocking: call it through `asyncio.to_thread` from a coroutine.

    Args:
        path: What to replace.
        data: Its new content.
        mode: Its new mode.
        group_id: Whose group it is; None for this process's.

    Raises:
        OSError: The folder is missing, full or not writable; *path* is then unchanged.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if group_id is not None:
                os.fchown(stream.fileno(), -1, group_id)
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove what `write_atomic` left in *folder* when its process was killed amid a write.

    Only for a folder where nobody writes at the moment. Blocking.

    Raises:
        OSError: The folder cannot be read or written to.
    """
    for path in folder.glob(".*"):
        if _aside.fullmatch(path.name):
            path.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make the names in *folder* survive a power loss, not only its files' content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def find_existing(path: Path) -> Path:
    """Return *path*, or the nearest folder above it that is there, as far as this user can see."""
    return next(folder for folder in (path, *path.parents) if os.path.exists(folder))


def find_file_system(path: Path) -> str:
    """Return the kind of the file system that *path* is on, such as `ext4`."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match.group(1), 8)), mount)
        is_above = path.resolve().is_relative_to(point)
        if is_above and len(point) >= len(best):
            best, kind = point, name
    return kind
