"""Archives of a container: as a tar for an engine, or as a tree of files to be bound."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.spec import Archive, ArchiveItem, ItemKind

_tar_types = {
    ItemKind.FILE: tarfile.REGTYPE,
    ItemKind.DIRECTORY: tarfile.DIRTYPE,
    ItemKind.SYMLINK: tarfile.SYMTYPE,
}

_folders_of_every_system = {
    "": "bin boot dev etc home lib lib64 media mnt opt proc root run sbin srv sys tmp usr var",
    "/etc": "profile.d ssh ssl",
    "/etc/ssl": "certs",
    "/usr": "bin lib lib64 local sbin share",
    "/usr/local": "bin etc lib share",
    "/var": "lib log run tmp",
}
_shared_folders = frozenset(
    f"{parent}/{name}"
    for parent, names in _folders_of_every_system.items()
    for name in names.split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Something of a tree that must appear in a container."""

    source: Path
    target: str
    is_link: bool = False
    """A link between the folders that the container shares with its image; cannot be mounted."""


def tar_of(archive: Archive) -> bytes:
    """Return *archive* as a tar stream: entries in its order, names as they are, nothing added."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape"
    ) as tar:
        for item in archive.items:
            tar.addfile(_tar_entry(item), io.BytesIO(item.content))
        end = buffer.tell()
    # Two empty blocks are the end. Python adds more, and podman's unpacker, which reads none of them
    # and may be gone before they come, fails with a broken pipe then.
    return buffer.getvalue()[: end + 2 * tarfile.BLOCKSIZE]


def unpack(archives: Iterable[Archive], root: Path) -> None:
    """Lay *archives* out below *root*, a folder of ours, as they would lie below /.

    Owners are set if this process is root; else everything is ours. Blocking.

    Raises:
        SpecUnsupported: An item leads out of *root*, or through a link, or through a file.
    """
    folders: list[tuple[Path, ArchiveItem]] = []
    for archive in archives:
        for item in archive.items:
            path = _place(root, f"{archive.path}/{item.path}")
            _make_item(path, item)
            if item.kind is ItemKind.DIRECTORY:
                folders.append((path, item))
    # Last, and the deepest first, for making a file changes its folder's time and needs the right.
    for path, item in reversed(folders):
        _set_attributes(path, item)


def plan_bindings(
    tree: Path, is_shared: Callable[[str], bool] = lambda _: False
) -> Iterator[Binding]:
    """Yield what of *tree* to bind so that it appears at / and hides nothing beside it.

    Folders that every system has, such as /etc, are never bound themselves, only what lies in them.

    Args:
        tree: A folder on this host.
        is_shared: Says of further folders that they have content besides the tree's.
    """
    yield from _plan_below(tree, "", is_shared)


def _plan_below(folder: Path, target: str, is_shared: Callable[[str], bool]) -> Iterator[Binding]:
    for entry in sorted(folder.iterdir()):
        path = f"{target}/{entry.name}"
        if entry.is_symlink():
            yield Binding(source=entry, target=path, is_link=True)
        elif entry.is_dir() and (path in _shared_folders or is_shared(path)):
            yield from _plan_below(entry, path, is_shared)
        else:
            yield Binding(source=entry, target=path)


def _tar_entry(item: ArchiveItem) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(item.path)
    entry.type = _tar_types[item.kind]
    entry.mode, entry.uid, entry.gid, entry.mtime = item.mode, item.uid, item.gid, item.mtime
    if item.kind is ItemKind.FILE:
        entry.size = len(item.content)
    elif item.kind is ItemKind.SYMLINK:
        entry.linkname = os.fsdecode(item.content)
    return entry


def _place(root: Path, path: str) -> Path:
    """Return where *path* of the container lies below *root*, its parent made and checked."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise SpecUnsupported(f"archive item {path!r} leads out of its folder")
    place = root
    for part in parts[:-1]:
        place = place / part
        try:
            mode = place.lstat().st_mode
        except FileNotFoundError:
            place.mkdir(mode=0o755)
        else:
            if not stat.S_ISDIR(mode):
                raise SpecUnsupported(
                    f"archive item {path!r} leads through {part!r}, which is no folder"
                )
    return place / parts[-1] if parts else root


def _make_item(path: Path, item: ArchiveItem) -> None:
    is_folder = path.is_dir() and not path.is_symlink()
    if item.kind is ItemKind.DIRECTORY:
        if not is_folder:
            path.unlink(missing_ok=True)
            path.mkdir(mode=0o700)
        return
    if is_folder:
        raise SpecUnsupported(f"archive item {item.path!r} would replace a folder")
    path.unlink(missing_ok=True)
    if item.kind is ItemKind.SYMLINK:
        path.symlink_to(os.fsdecode(item.content))
    else:
        path.write_bytes(item.content)
    _set_attributes(path, item)


def _set_attributes(path: Path, item: ArchiveItem) -> None:
    if os.geteuid() == 0:
        os.chown(path, item.uid, item.gid, follow_symlinks=False)
    if item.kind is not ItemKind.SYMLINK:
        path.chmod(item.mode & 0o7777)  # after the owner, whose change takes set-uid bits away
    os.utime(path, (item.mtime, item.mtime), follow_symlinks=False)
