"""A small record that changes often and must survive a crash: how far a lane is delivered."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from shipway_common.files import fsync_folder

_SLOT_BYTES = 512  # a disk writes a sector whole or not at all
_SLOTS = 2


class StateFile:
    """Two slots that are written in turn: one of them is always whole.

    What was saved outlives the process at once, and a power loss some seconds later: after one, an
    older record may be found, so whoever loads it must have another way to see what is true.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sequence = 0

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last; None if nothing ever was. Blocking.

        Raises:
            OSError: The file cannot be read.
            ValueError: Neither slot is whole, or the file is of a newer version.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        if not data.strip(b"\0"):
            return None  # a crash came between the making of the file and the first record
        slots = [
            _parse(data[place : place + _SLOT_BYTES]) for place in range(0, len(data), _SLOT_BYTES)
        ]
        whole = [slot for slot in slots if slot is not None]
        if not whole:
            raise ValueError(f"{self._path} is damaged")
        newest = max(whole, key=lambda slot: slot["sequence"])
        if newest["version"] != 1:
            raise ValueError(f"{self._path} is of version {newest['version']}, not 1")
        self._sequence = newest["sequence"]
        return newest

    def save(self, **values: int) -> None:
        """Write *values*. Blocking, though it waits for no disk.

        Raises:
            OSError: They are not; what was saved before still is.
        """
        sequence = self._sequence + 1
        slot = _render({"version": 1, "sequence": sequence, **values})
        is_new = sequence == 1
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(descriptor, slot, sequence % _SLOTS * _SLOT_BYTES)
        finally:
            os.close(descriptor)
        if is_new:
            fsync_folder(self._path.parent)
        self._sequence = sequence


def _render(values: dict[str, int]) -> bytes:
    text = json.dumps(values).encode()
    return f"{zlib.crc32(text):08x} ".encode() + text.ljust(_SLOT_BYTES - 9)


def _parse(slot: bytes) -> dict[str, Any] | None:
    checksum, _, text = slot.partition(b" ")
    text = text.rstrip()
    if checksum != f"{zlib.crc32(text):08x}".encode():
        return None
    values: dict[str, Any] = json.loads(text)
    return values
