"""Turn a manifest's archives into one tree, refusing what could reach outside of it."""

from __future__ import annotations

import base64
import binascii
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shipway_launcher.errors import TooLarge, WrongRequest
from shipway_launcher.transport.tree import Entry, Kind

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def read_archives(texts: Sequence[str], *, limit_bytes: int) -> list[Entry]:
    """Unpack base64 texts of gzip tars, in their order, into one consistent tree.

    A file or link that comes again replaces the earlier one; a folder that comes again only gets
    the later mode. Owners and times are not kept: all belongs to the user who runs the job.

    Args:
        texts: The archives.
        limit_bytes: Most that all of them may unpack to.

    Raises:
        WrongRequest: One is no archive, or holds what must not be: `..`, hard links, devices, or
            something below a link.
        TooLarge: They unpack to more than the limit.
    """
    tree: dict[str, Entry] = {}
    left = limit_bytes
    for number, text in enumerate(texts):
        try:
            packed = base64.b64decode(text, validate=True)
            stream = _Bounded(gzip.GzipFile(fileobj=io.BytesIO(packed)), left)
            with tarfile.open(fileobj=stream, mode="r|", errorlevel=2) as archive:
                for entry in _entries(archive):
                    _add(tree, entry)
            while stream.read(1 << 16):  # to the check sum at its end
                pass
            left = stream.left
        except (
            binascii.Error,
            ValueError,
            EOFError,
            OSError,
            tarfile.TarError,
            zlib.error,
        ) as error:
            raise WrongRequest(f"custom.Archives.{number}: no gzip tar: {error}") from error
        except _Refused as error:
            raise WrongRequest(f"custom.Archives.{number}: {error}") from error
        except _OverLimit as error:
            raise TooLarge(
                f"custom.Archives: they unpack to more than {limit_bytes >> 20} MiB"
                " (limits.archives_mib of the launcher)"
            ) from error
    return list(tree.values())


class _Refused(Exception):
    """Something in an archive must not be there."""


class _OverLimit(Exception):
    """The archives are larger than they may be."""


class _Bounded(io.RawIOBase):
    """A stream that ends in an error after so many bytes, whatever a header promises."""

    def __init__(self, stream: gzip.GzipFile, left: int) -> None:
        super().__init__()
        self._stream, self.left = stream, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._stream.readinto(buffer)
        self.left -= count
        if self.left < 0:
            raise _OverLimit
        return count


def _entries(archive: tarfile.TarFile) -> Iterator[Entry]:
    for member in archive:
        path = _normalise(member.name)
        if not path:
            continue
        mode = member.mode & 0o777
        if member.isdir():
            yield Entry(path=path, kind=Kind.FOLDER, mode=mode)
        elif member.issym():
            target = member.linkname.encode("utf-8", "surrogateescape")
            yield Entry(path=path, kind=Kind.LINK, content=target)
        elif member.isreg() and (stream := archive.extractfile(member)) is not None:
            yield Entry(path=path, kind=Kind.FILE, mode=mode, content=stream.read())
        else:
            raise _Refused(f"{member.name[:200]!r} is neither a file, a folder nor a link")


def _normalise(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise _Refused(f"{name[:200]!r} leaves the tree")
    return "/".join(parts)


def _add(tree: dict[str, Entry], entry: Entry) -> None:
    above = entry.path
    while above := above.rpartition("/")[0]:
        parent = tree.get(above)
        if parent is not None and parent.kind is not Kind.FOLDER:
            raise _Refused(f"{entry.path[:200]!r} lies below {above[:200]!r}, which is no folder")
    before = tree.get(entry.path)
    if before is not None and (before.kind is Kind.FOLDER) != (entry.kind is Kind.FOLDER):
        raise _Refused(f"{entry.path[:200]!r} is a folder and something else")
    if entry.kind is not Kind.FOLDER and any(path.startswith(f"{entry.path}/") for path in tree):
        raise _Refused(f"{entry.path[:200]!r} is no folder, but something lies below it")
    tree[entry.path] = entry
