"""The files that come with a task: checked, put into its container, and given out again."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

RUN_DIR = "/run/determined"
"""Where in its container everything of a task lies."""
FILE_TYPE = ord("0")
DIRECTORY_TYPE = ord("5")
SYMLINK_TYPE = ord("2")


class BadFile(ValueError):
    """A file cannot be put where its path says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFile:
    """One file, folder or link, by its tar type."""

    path: str
    """Relative for the user's files, absolute for what the master adds."""
    type: int
    content: bytes = field(default=b"", repr=False)
    """Data of a file, target of a link."""
    mode: int
    mtime: int = 1_501_632_000
    """Seconds since 1970; what the master adds has one fixed time."""
    uid: int = 0
    gid: int = 0


def check_files(files: Sequence[TaskFile]) -> None:
    """Refuse what would land outside the working folder.

    Raises:
        BadFile: A path is absolute, climbs out or is empty, or the type is none of a file's.
    """
    for file in files:
        normal = posixpath.normpath(file.path)
        if not file.path or file.path.startswith("/") or normal.split("/")[0] == "..":
            raise BadFile(f"file {file.path!r} lies outside the folder that was sent")
        if "\0" in file.path:
            raise BadFile(f"file {file.path!r} has a NUL byte in its name")
        if file.type not in (FILE_TYPE, DIRECTORY_TYPE, SYMLINK_TYPE):
            raise BadFile(f"file {file.path!r} has the type {file.type}, which is not supported")
        if file.type == SYMLINK_TYPE and _leaves(normal, file.content):
            raise BadFile(f"link {file.path!r} points out of the folder that was sent")


def pack(files: Sequence[TaskFile]) -> bytes:
    """Write the files as a gzip tar; the same files give the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT
    ) as tar:
        for file in files:
            info = tarfile.TarInfo(file.path.rstrip("/"))
            info.mode, info.mtime, info.uid, info.gid = file.mode, file.mtime, file.uid, file.gid
            info.type = bytes([file.type])
            if file.type == SYMLINK_TYPE:
                info.linkname = file.content.decode("utf-8", "surrogateescape")
                tar.addfile(info)
            else:
                info.size = len(file.content)
                tar.addfile(info, io.BytesIO(file.content))
    return buffer.getvalue()


def unpack(packed: bytes) -> list[TaskFile]:
    """Read what `pack` wrote."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        return list(_read_members(tar))


def _read_members(tar: tarfile.TarFile) -> Iterator[TaskFile]:
    for info in tar:
        if info.issym():
            content = info.linkname.encode("utf-8", "surrogateescape")
        else:
            stream = tar.extractfile(info)
            content = b"" if stream is None else stream.read()
        yield TaskFile(
            path=info.name,
            type=info.type[0],
            content=content,
            mode=info.mode,
            mtime=int(info.mtime),
            uid=info.uid,
            gid=info.gid,
        )


def _leaves(path: str, target: bytes) -> bool:
    text = target.decode("utf-8", "surrogateescape")
    joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
    return text.startswith("/") or joined.split("/")[0] == ".."
