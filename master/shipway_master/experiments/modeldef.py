"""Model definitions: the files in their archive as a tree, and single ones of them."""

from __future__ import annotations

import io
import mimetypes
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from shipway_master.experiments.errors import BadExperiment


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file or folder."""

    path: str
    """Relative to the root of the model definition."""
    is_folder: bool
    size_bytes: int
    modified_at: datetime
    content_type: str
    """MIME type; empty for folders."""


def list_entries(tgz: bytes) -> list[Entry]:
    """List what an archive holds, sorted by path; folders that only paths name are there, too."""
    found: dict[str, Entry] = {}
    for info in _members(tgz):
        path = posixpath.normpath(info.name)
        if path == ".":
            continue
        moment = datetime.fromtimestamp(info.mtime, UTC)
        for parent in _parents(path):
            found.setdefault(parent, _folder(parent, moment))
        if info.isdir():
            found[path] = _folder(path, moment)
        else:
            kind = mimetypes.guess_type(path)[0] or "text/plain; charset=utf-8"
            found[path] = Entry(
                path=path,
                is_folder=False,
                size_bytes=info.size,
                modified_at=moment,
                content_type=kind,
            )
    return [found[path] for path in sorted(found)]


def read_file(tgz: bytes, path: str) -> bytes | None:
    """Read one file of an archive; None when it is not in there.

    Raises:
        BadExperiment: It is a folder or a link.
    """
    wanted = posixpath.normpath(path)
    if not tgz:
        return None
    with tarfile.open(fileobj=io.BytesIO(tgz), mode="r:gz") as tar:
        for info in tar:
            if posixpath.normpath(info.name) != wanted:
                continue
            stream = tar.extractfile(info) if info.isfile() else None
            if stream is None:
                raise BadExperiment(f"{path!r} is not a file of this model definition")
            return stream.read()
    return None


def _members(tgz: bytes) -> Iterator[tarfile.TarInfo]:
    if tgz:
        with tarfile.open(fileobj=io.BytesIO(tgz), mode="r:gz") as tar:
            yield from tar


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def _folder(path: str, modified_at: datetime) -> Entry:
    return Entry(path=path, is_folder=True, size_bytes=0, modified_at=modified_at, content_type="")
