"""Reading the small files by which the kernel tells numbers, as cheaply as it goes."""

from __future__ import annotations

import os

_READ_BYTES = 1 << 16
_LONGEST_NUMBER = 64


def read_file(path: str, *, folder: int | None = None) -> bytes:
    """Return what a file of /proc or /sys says.

    Args:
        path: The file.
        folder: Descriptor of the folder that *path* is relative to.

    Raises:
        OSError: It is not there, or not for us.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        parts: list[bytes] = []
        while data := os.read(descriptor, _READ_BYTES):
            parts.append(data)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def find_number(path: str) -> int | None:
    """Return the number that is all of a file; None if there is no such file or it has none."""
    try:
        text = read_file(path).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def find_entry(path: str, name: bytes) -> int | None:
    """Return the number that follows *name* on a line of its own; None if there is none."""
    try:
        data = b"\n" + read_file(path)
    except OSError:
        return None
    return entry_of(data, name)


def entry_of(data: bytes, name: bytes) -> int | None:
    """Return the number that follows *name* in *data*, which begins with an empty line."""
    start = max(data.find(b"\n" + name + b" "), data.find(b"\n" + name + b":"))
    if start < 0:
        return None
    number = start + len(name) + 2
    words = data[number : number + _LONGEST_NUMBER].split(None, 1)
    return int(words[0]) if words and words[0].isdigit() else None
