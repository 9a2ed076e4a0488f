"""One append-only file of messages, each with its length and checksum.

Blocking: everything here is called through `asyncio.to_thread`.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from shipway_common.files import fsync_folder

_MAGIC = b"shipway relay 1\n"
_RECORD = struct.Struct(">III")  # bytes of the payload, log lines in it, crc32 of the payload

_GROW_BYTES = 256 << 10
"""A file grows by so many zeros at once: a sync that need not note a new size is ten times faster."""

FIRST_OFFSET = len(_MAGIC)
"""Where the first message of a journal begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One call for the master, not yet delivered."""

    rpc: str
    request: bytes
    """The request message as it goes over the wire."""
    key: str = ""
    """Makes a signal the same as an earlier one; empty for what has no such key."""
    lines: int = 0
    """Log lines in it."""


@dataclass(slots=True)
class Journal:
    """A file of messages and how much of it is safely on disk."""

    path: Path
    size_bytes: int
    lines: int
    room_bytes: int
    """Size of the file; zeros after the last message."""


def create_journal(path: Path) -> Journal:
    """Make an empty journal whose name survives a power loss.

    Raises:
        OSError: The folder is full or not writable; nothing is left.
    """
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(_MAGIC)
            stream.flush()
            os.fsync(stream.fileno())
        fsync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        raise
    return Journal(path=path, size_bytes=FIRST_OFFSET, lines=0, room_bytes=FIRST_OFFSET)


def load_journal(path: Path, visit: Callable[[Message, int], None]) -> Journal:
    """Open a journal of an earlier run and cut off a message that was only half written.

    Args:
        path: The file.
        visit: Is shown each message in order, and the offset at which it ends.

    Raises:
        ValueError: The file is no journal, or one of a newer version.
    """
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        if data and not _MAGIC.startswith(data):
            raise ValueError(f"{path} is no journal of this version of the relay")
        data = _MAGIC
        path.write_bytes(data)
    journal = Journal(path=path, size_bytes=FIRST_OFFSET, lines=0, room_bytes=FIRST_OFFSET)
    for message, end in _messages(data, FIRST_OFFSET):
        journal.size_bytes, journal.lines = end, journal.lines + message.lines
        visit(message, end)
    os.truncate(path, journal.size_bytes)
    journal.room_bytes = journal.size_bytes
    return journal


def append_messages(journal: Journal, messages: Iterable[Message]) -> None:
    """Add *messages*; when this returns, they are on disk.

    Raises:
        OSError: None of them is kept; the journal is as before.
    """
    messages = list(messages)
    data = b"".join(map(_pack, messages))
    end = journal.size_bytes + len(data)
    try:
        if end > journal.room_bytes:
            _write_at_end(journal, data + bytes(_GROW_BYTES), room_bytes=end + _GROW_BYTES)
        else:
            _write_at_end(journal, data, room_bytes=journal.room_bytes)
    except OSError:  # there may still be room for the message itself
        _write_at_end(journal, data, room_bytes=end)
    journal.size_bytes = end
    journal.lines += sum(message.lines for message in messages)


def _write_at_end(journal: Journal, data: bytes, *, room_bytes: int) -> None:
    with journal.path.open("r+b", buffering=0) as stream:
        stream.seek(journal.size_bytes)
        try:
            left = memoryview(data)
            while left:
                left = left[stream.write(left) :]
            os.fdatasync(stream.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # a half message at the end is cut off at load too
                stream.truncate(journal.size_bytes)
                journal.room_bytes = journal.size_bytes
            raise
    journal.room_bytes = room_bytes


def read_messages(
    journal: Journal, offset: int, *, limit_bytes: int, limit_count: int
) -> tuple[list[Message], int]:
    """Return the messages from *offset* on, at least one if there is any, and where they end."""
    found: list[Message] = []
    with journal.path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read(min(journal.size_bytes - offset, limit_bytes))
        if len(data) >= _RECORD.size:
            length = _RECORD.size + _RECORD.unpack_from(data)[0]
            if length > len(data):
                data += stream.read(length - len(data))
    end = offset
    for message, relative_end in _messages(data, 0):
        found.append(message)
        end = offset + relative_end
        if len(found) == limit_count:
            break
    return found, end


def _pack(message: Message) -> bytes:
    payload = b"\0".join((message.rpc.encode(), message.key.encode(), message.request))
    return _RECORD.pack(len(payload), message.lines, zlib.crc32(payload)) + payload


def _messages(data: bytes, offset: int) -> Iterable[tuple[Message, int]]:
    while offset + _RECORD.size <= len(data):
        length, lines, checksum = _RECORD.unpack_from(data, offset)
        if length == 0:  # the zeros of a file that has room left
            return
        end = offset + _RECORD.size + length
        payload = data[offset + _RECORD.size : end]
        if len(payload) < length or zlib.crc32(payload) != checksum:
            return
        rpc, key, request = payload.split(b"\0", 2)
        yield Message(rpc=rpc.decode(), key=key.decode(), request=request, lines=lines), end
        offset = end
