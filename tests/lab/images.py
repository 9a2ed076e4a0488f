"""The image of the lab: busybox alone, 2 MB, made here because a lab has no registry."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")

_APPLETS = """
cat chmod cp cut date dirname echo env expr false find grep head hostname id kill ln ls mkdir mv nc
od printenv printf ps pwd readlink rm sed seq sh sleep sort stat tail tar test touch tr true uname
wc wget
"""


def has_static_busybox() -> bool:
    """Say whether /bin/busybox is there and runs without libraries (package busybox-static)."""
    if not BUSYBOX.exists():
        return False
    content = BUSYBOX.read_bytes()
    return (
        content.startswith(b"\x7fELF")
        and b"/ld-linux" not in content
        and b"/ld-musl" not in content
    )


def image_tar() -> bytes:
    """Return the image's files as a tar: busybox, links to it, and the usual empty folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "var"):
            _add_folder(archive, name, mode=0o755)
        for name in ("tmp", "var/tmp"):
            _add_folder(archive, name, mode=0o1777)
        _add_file(archive, "bin/busybox", BUSYBOX.read_bytes(), mode=0o755)
        for name in _APPLETS.split():
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        _add_file(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", mode=0o644)
        _add_file(archive, "etc/group", b"root:x:0:\n", mode=0o644)
    return buffer.getvalue()


def unpack_image(folder: Path) -> Path:
    """Lay the image's files out below *folder*, for runtimes that run a plain folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(image_tar())) as archive:
        # Debian's Python 3.11 has no filters yet, newer ones warn when none is chosen.
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        archive.extractall(folder)
    return folder


def _add_folder(archive: tarfile.TarFile, name: str, *, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    archive.addfile(entry)


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))
