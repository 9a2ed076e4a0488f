"""Write and remove a folder's tree without ever following a link in it."""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path


class Kind(enum.StrEnum):
    """What an entry of a tree is."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in a tree."""

    path: str
    """Relative, without empty parts, `.` or `..`."""
    kind: Kind
    mode: int = 0o600
    content: bytes = b""
    """A file's content, a link's target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStatus:
    """What is known of a file without reading it."""

    size: int
    modified_at: float
    """Seconds since 1970."""


def make_own_folder(folder: Path) -> os.stat_result:
    """Make a folder into which nobody but this process's user may write, if it is missing.

    Raises:
        OSError: It cannot be made, or is not safe.
    """
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} does not belong to the launcher's user")
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise PermissionError(f"others may write into {folder}; chmod go-w {folder}")
    return status


def make_root(root: Path, jobs: Path, *, is_shared: bool) -> None:
    """Make the folder *root* of this process's user, and *jobs* below it for folders of users.

    Args:
        root: Is made if it is missing.
        jobs: In *root*, with one more folder between them.
        is_shared: Whether several users make folders in *jobs*.

    Raises:
        OSError: They cannot be made, or are not safe.
    """
    status = make_own_folder(root)
    if is_shared and not status.st_mode & 0o001:
        raise PermissionError(f"the jobs' users cannot enter {root}; chmod o+x {root}")
    jobs.mkdir(parents=True, exist_ok=True)
    jobs.parent.chmod(0o755)
    jobs.chmod(0o1777 if is_shared else 0o755)


def install_tree(folder: Path, entries: Sequence[Entry]) -> None:
    """Make *folder* and *entries* in it, in this order, for this process's user alone.

    The folder above is made if it is missing; if it is there it must belong to this user.

    Raises:
        OSError: Something is there already, belongs to someone else or cannot be written.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder.parent, 0o700)
    above = os.lstat(folder.parent)
    if not stat.S_ISDIR(above.st_mode) or above.st_uid != os.geteuid():
        raise PermissionError(f"{folder.parent} is not a folder of user id {os.geteuid()}")
    os.mkdir(folder, 0o700)
    root = _open_folder(folder)
    try:
        for entry in entries:
            _write(root, entry)
        for entry in reversed(entries):  # last, as a folder may forbid its owner to write into it
            if entry.kind is Kind.FOLDER:
                _set_mode(root, entry)
    finally:
        os.close(root)


def remove_tree(folder: Path) -> None:
    """Remove *folder* and what is in it; links are removed, not followed.

    Raises:
        OSError: Something cannot be removed, or a file system is mounted in the tree. What could
            be removed before is gone.
    """
    try:
        descriptor = _open_folder(folder)
    except FileNotFoundError:
        return
    try:
        _empty(descriptor, os.fstat(descriptor).st_dev, str(folder))
    finally:
        os.close(descriptor)
    os.rmdir(folder)


def read_part(path: Path, offset: int, limit: int) -> bytes:
    """Return up to *limit* bytes of a regular file, fewer only at its end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        parts: list[bytes] = []
        while limit > 0 and (part := os.pread(descriptor, min(limit, 1 << 20), offset)):
            parts.append(part)
            offset, limit = offset + len(part), limit - len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int | None:
    """Return the size of a regular file, None where there is none."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def status_of(path: Path) -> FileStatus | None:
    """Return size and age of a regular file, None where there is none."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return FileStatus(size=status.st_size, modified_at=status.st_mtime)


def erase_file(path: Path) -> None:
    """Empty a regular file; that there is none is no error."""
    if size_of(path) is None:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _open_folder(path: Path | str, parent: int | None = None) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


@contextlib.contextmanager
def _parent(root: int, path: str) -> Generator[tuple[int, str]]:
    """Open the folder that *path* lies in, refusing links on the way; give it and the last name."""
    *above, name = path.split("/")
    descriptor = os.dup(root)
    try:
        for part in above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=descriptor)
            below = _open_folder(part, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor, name
    finally:
        os.close(descriptor)


def _write(root: int, entry: Entry) -> None:
    with _parent(root, entry.path) as (parent, name):
        match entry.kind:
            case Kind.FOLDER:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=parent)
            case Kind.LINK:
                os.symlink(os.fsdecode(entry.content), name, dir_fd=parent)
            case Kind.FILE:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                descriptor = os.open(name, flags, 0o600, dir_fd=parent)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(entry.content)
                    os.fchmod(stream.fileno(), entry.mode)


def _set_mode(root: int, entry: Entry) -> None:
    with _parent(root, entry.path) as (parent, name):
        folder = _open_folder(name, parent)
        try:
            os.fchmod(folder, entry.mode)
        finally:
            os.close(folder)


def _empty(folder: int, device: int, path: str) -> None:
    with contextlib.suppress(PermissionError):  # jobs may leave folders closed to their owner
        os.fchmod(folder, 0o700)
    with os.scandir(folder) as found:
        items = [(item.name, item.is_dir(follow_symlinks=False)) for item in found]
    for name, is_folder in items:
        if not is_folder:
            os.unlink(name, dir_fd=folder)
            continue
        with contextlib.suppress(PermissionError, NotImplementedError):
            os.chmod(name, 0o700, dir_fd=folder, follow_symlinks=False)
        _remove_below(folder, name, device, f"{path}/{name}")


def _remove_below(folder: int, name: str, device: int, path: str) -> None:
    below = _open_folder(name, folder)
    try:
        if os.fstat(below).st_dev != device:
            raise OSError(f"a file system is mounted on {path}; unmount it first")
        _empty(below, device, path)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=folder)
