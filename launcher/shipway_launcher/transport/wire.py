"""A tree's entries as bytes, for the helper that writes them as another user."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

from shipway_launcher.transport.tree import Entry, Kind

_TYPES = {Kind.FILE: tarfile.REGTYPE, Kind.FOLDER: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}
_KINDS = {kind: name for name, kind in _TYPES.items()}


def pack(entries: Sequence[Entry]) -> bytes:
    """Pack *entries* in their order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            header = tarfile.TarInfo(entry.path)
            header.type, header.mode = _TYPES[entry.kind], entry.mode
            if entry.kind is Kind.LINK:
                header.linkname = entry.content.decode("utf-8", "surrogateescape")
            elif entry.kind is Kind.FILE:
                header.size = len(entry.content)
            archive.addfile(header, io.BytesIO(entry.content))
    return buffer.getvalue()


def unpack(data: bytes) -> list[Entry]:
    """Read what `pack` made."""
    entries: list[Entry] = []
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for header in archive:
            kind = _KINDS[header.type]
            content = b""
            if kind is Kind.LINK:
                content = header.linkname.encode("utf-8", "surrogateescape")
            elif (stream := archive.extractfile(header)) is not None:
                content = stream.read()
            entries.append(Entry(path=header.name, kind=kind, mode=header.mode, content=content))
    return entries
