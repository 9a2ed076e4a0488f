"""Archives that are made while they are sent: nothing is held but the piece in hand."""

from __future__ import annotations

import asyncio
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import IO, Final, Protocol, cast

from shipway_master.checkpoints.download.source import Entry, Source, SourceError

_LEVEL: Final = 1
"""Of compression: most of a checkpoint are numbers that no level makes much smaller."""
_FIRST_ZIP_S: Final = 315_532_800
"""1980: there is no earlier time in a zip archive."""
_GZIP_BITS: Final = 31


class Packer(Protocol):
    """Turns entries into the bytes of an archive."""

    def begin(self, entry: Entry) -> bytes:
        """Begin an entry."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Go on with the file begun last."""
        ...

    def end(self) -> bytes:
        """End the entry begun last."""
        ...

    def finish(self) -> bytes:
        """End the archive."""
        ...


class TarPacker:
    """A tar archive."""

    def __init__(self) -> None:
        self._padding = 0

    def begin(self, entry: Entry) -> bytes:
        """Write the head of an entry."""
        info = tarfile.TarInfo(entry.path.rstrip("/"))
        info.mtime = entry.mtime
        if entry.is_folder:
            info.type, info.mode = tarfile.DIRTYPE, 0o755
        elif entry.target is not None:
            info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry.target
        else:
            info.size, info.mode = entry.size, 0o644
        self._padding = -info.size % tarfile.BLOCKSIZE
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")

    def feed(self, data: bytes) -> bytes:
        """A file is in it as it is."""
        return data

    def end(self) -> bytes:
        """Fill up the last block."""
        return bytes(self._padding)

    def finish(self) -> bytes:
        """Write the two empty blocks that end it."""
        return bytes(2 * tarfile.BLOCKSIZE)


class GzipTarPacker:
    """A tar archive, compressed."""

    def __init__(self) -> None:
        self._tar = TarPacker()
        self._gzip = zlib.compressobj(_LEVEL, wbits=_GZIP_BITS)

    def begin(self, entry: Entry) -> bytes:
        """Write the head of an entry."""
        return self._gzip.compress(self._tar.begin(entry))

    def feed(self, data: bytes) -> bytes:
        """Compress a piece of a file."""
        return self._gzip.compress(data)

    def end(self) -> bytes:
        """Fill up the last block."""
        return self._gzip.compress(self._tar.end())

    def finish(self) -> bytes:
        """End both."""
        return self._gzip.compress(self._tar.finish()) + self._gzip.flush()


class _Sink:
    """A file that only takes what is written, until that is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits anywhere."""

    def take(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


class ZipPacker:
    """A zip archive; sizes stand behind the files, as nobody can go back to write them before."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(
            cast("IO[bytes]", self._sink), "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL
        )
        self._file: IO[bytes] | None = None

    def begin(self, entry: Entry) -> bytes:
        """Write the head of an entry."""
        moment = time.gmtime(max(entry.mtime, _FIRST_ZIP_S))
        name = entry.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        info = zipfile.ZipInfo(name, date_time=moment[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        if entry.is_folder:
            info.external_attr = (stat.S_IFDIR | 0o755) << 16 | 0x10
            self._zip.writestr(info, b"")
        elif entry.target is not None:
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            self._zip.writestr(info, entry.target.encode("utf-8", "surrogateescape"))
        else:
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.file_size = entry.size
            self._file = self._zip.open(info, "w")
        return self._sink.take()

    def feed(self, data: bytes) -> bytes:
        """Compress a piece of a file."""
        assert self._file is not None
        self._file.write(data)
        return self._sink.take()

    def end(self) -> bytes:
        """Write the size of a file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        return self._sink.take()

    def finish(self) -> bytes:
        """Write the list of what is in it."""
        self._zip.close()
        return self._sink.take()


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form of archive."""

    suffix: str
    make_packer: Callable[[], Packer]


FORMS: Final[Mapping[str, Form]] = {
    "application/x-tar": Form(suffix="tar", make_packer=TarPacker),
    "application/gzip": Form(suffix="tar.gz", make_packer=GzipTarPacker),
    "application/zip": Form(suffix="zip", make_packer=ZipPacker),
}
"""By media type; the first is taken where nobody asks for another."""


async def pack(source: Source, packer: Packer) -> AsyncGenerator[bytes]:
    """Make an archive of all that *source* has.

    Raises:
        SourceError: It cannot be read, or a file changes while it is.
    """
    async with aclosing(source.entries()) as entries:
        async for entry in entries:
            yield packer.begin(entry)
            if not entry.is_folder and entry.target is None:
                async with aclosing(_pack_file(source, entry, packer)) as pieces:
                    async for piece in pieces:
                        yield piece
            yield packer.end()
    yield packer.finish()


async def _pack_file(source: Source, entry: Entry, packer: Packer) -> AsyncGenerator[bytes]:
    left = entry.size
    async with aclosing(source.read(entry)) as chunks:
        async for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                break
            yield await asyncio.to_thread(packer.feed, chunk)
    if left:
        raise SourceError(f"file {entry.path!r} changed while it was read")
