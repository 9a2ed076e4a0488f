"""How a shim puts bytes on disk so that a full disk costs as little as possible, and visibly."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from pathlib import Path

from shipway_agent.runtimes.chunks import STDERR, STDOUT
from shipway_agent.runtimes.shimfiles import (
    UNREAD,
    ExitRecord,
    encode_frame_header,
    encode_record,
    encode_segment_header,
    segment_path,
)
from shipway_common.files import fsync_folder

_TAIL_BYTES = 4096
_LOST_END_BYTES = 16384
_SEGMENT_BYTES = 16 << 20
_SEGMENTS_AT_LEAST = 8
"""Into how many files the output is cut where a limit is set, so that it is freed bit by bit."""
_RESERVED_BYTES = 16384
_OUTPUT_RESERVE = ".output.reserved"
_OUTPUT_RESERVE_BYTES = 2 * _LOST_END_BYTES + 4096
"""Enough for the ends of both streams, a note and the headers."""


class OutputFiles:
    """The output of a task, in the order in which it was read, as frames in files of limited size.

    Whoever has delivered a file removes it. What cannot be written is dropped but for its end, never
    the task held up; a note stands in its place. For these there is room even when the disk is full
    to the last: a place for them is taken beforehand.
    """

    def __init__(self, folder: Path, limit_bytes: int | None) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._segment_bytes = _SEGMENT_BYTES
        if limit_bytes is not None:
            self._segment_bytes = max(1, min(_SEGMENT_BYTES, limit_bytes // _SEGMENTS_AT_LEAST))
        self._kept: deque[tuple[Path, int]] = deque()
        self._kept_bytes = 0
        self._ends = {STDOUT: 0, STDERR: 0}
        self._number = -1
        self._descriptor = -1
        self._size_bytes = 0
        self.is_dropping = False
        """Whether what comes is dropped while there is no room."""
        self._lost_bytes = 0
        self._lost_ends: dict[int, bytes] = {}
        self._problem = ""
        self.stderr_tail = b""
        """The last that came on stderr, whether it could be written or not."""
        self._reserve = _reserve(folder / _OUTPUT_RESERVE, _OUTPUT_RESERVE_BYTES)

    @property
    def has_room(self) -> bool:
        """Whether so much has been delivered that more may come."""
        return self._limit_bytes is None or self._kept_bytes + self._size_bytes < self._limit_bytes

    def look_for_room(self) -> bool:
        """See what was delivered meanwhile; returns whether there is room now."""
        if self.has_room:
            return True
        is_unread = (self._folder / UNREAD).exists()
        while self._kept and not self.has_room:
            path, size_bytes = self._kept[0]
            if is_unread:
                path.unlink(missing_ok=True)
            elif path.exists():
                break
            self._kept.popleft()
            self._kept_bytes -= size_bytes
        return self.has_room

    def drop_rather(self) -> None:
        """From now on drop what comes while there is no room, for nobody takes anything."""
        self.is_dropping = True

    def write(self, stream: int, data: bytes) -> None:
        """Append a piece of output."""
        if not data:
            return
        if stream == STDERR:
            self.stderr_tail = (self.stderr_tail + data)[-_TAIL_BYTES:]
        if self.is_dropping:
            self.is_dropping = not self.look_for_room()
            self._problem = "nobody took what was kept"
        if self.is_dropping or not self._make_up() or not self._append(stream, data):
            self._lose(stream, data)

    def forget_tail(self) -> None:
        """Begin the last of stderr anew."""
        self.stderr_tail = b""

    def close(self) -> None:
        """Note a loss at the very end, and close."""
        if not self._make_up():
            with contextlib.suppress(OSError):  # a file system that never overwrites is full, too
                self._spend_reserve()
        self._reserve.unlink(missing_ok=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _lose(self, stream: int, data: bytes) -> None:
        """Drop a piece, but for its end, which may turn out to be the last of all."""
        self._lost_bytes += len(data)
        self._lost_ends[stream] = (self._lost_ends.get(stream, b"") + data)[-_LOST_END_BYTES:]

    def _make_up(self) -> bool:
        """Write down what was lost, and what is left of it; returns whether nothing is owed."""
        if not self._lost_bytes:
            return True
        count = self._lost_bytes - sum(map(len, self._lost_ends.values()))
        if count:
            if not self._append(STDERR, self._describe_loss(count)):
                return False
            self._lost_bytes -= count
        for stream, data in list(self._lost_ends.items()):
            if not self._append(stream, data):
                return False
            del self._lost_ends[stream]
            self._lost_bytes -= len(data)
        return True

    def _describe_loss(self, count: int) -> bytes:
        return f"[shipway: {count} bytes of output were lost here: {self._problem}]\n".encode()

    def _spend_reserve(self) -> None:
        """Make the place that was taken beforehand the last segment, with all that is owed."""
        owed = list(self._lost_ends.items())
        count = self._lost_bytes - sum(len(data) for _, data in owed)
        if count:
            owed.insert(0, (STDERR, self._describe_loss(count)))
        pieces = [encode_segment_header(self._ends)]
        for stream, data in owed:
            pieces += [encode_frame_header(stream, len(data)), data]
        with self._reserve.open("r+b") as file:
            file.write(b"".join(pieces))
            file.truncate()
        self._number += 1
        self._reserve.replace(segment_path(self._folder, self._number))

    def _append(self, stream: int, data: bytes) -> bool:
        try:
            if self._descriptor < 0 or self._size_bytes >= self._segment_bytes:
                self._begin_segment()
            self._write_all([encode_frame_header(stream, len(data)), data])
        except OSError as error:
            self._problem = error.strerror or str(error)
            return False
        self._ends[stream] += len(data)
        return True

    def _begin_segment(self) -> None:
        path = segment_path(self._folder, self._number + 1)
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        previous, self._descriptor = self._descriptor, descriptor
        before, self._size_bytes = self._size_bytes, 0
        try:
            self._write_all([encode_segment_header(self._ends)])
        except OSError:  # the one before has to do, however long it gets
            os.close(descriptor)
            path.unlink(missing_ok=True)
            self._descriptor, self._size_bytes = previous, before
            raise
        if previous >= 0:
            os.close(previous)
            self._kept.append((segment_path(self._folder, self._number), before))
            self._kept_bytes += before
        self._number += 1

    def _write_all(self, pieces: list[bytes]) -> None:
        """Write all of it or nothing: half a frame would hide the next."""
        total = sum(map(len, pieces))
        try:
            written = os.writev(self._descriptor, pieces)
            if written < total:
                rest = memoryview(b"".join(pieces))
                while written < total:
                    written += os.write(self._descriptor, rest[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._size_bytes)
            raise
        self._size_bytes += total


class ReservedRecord:
    """A record whose place on disk is taken before it is known, so that it always fits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = _reserve(path.with_name(f".{path.name}.reserved"), _RESERVED_BYTES)

    def save(self, record: ExitRecord) -> None:
        """Put *record* where it belongs, whole or not at all; readers skip the blanks after it."""
        data = encode_record(record)
        with self._place.open("r+b") as stream:
            stream.write(data.ljust(_RESERVED_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self._place, self._path)
        fsync_folder(self._path.parent)


def _reserve(path: Path, size_bytes: int) -> Path:
    """Take room on disk by a file of blanks.

    Raises:
        OSError: There is none.
    """
    with path.open("wb") as stream:
        os.fchmod(stream.fileno(), 0o600)
        stream.write(b" " * size_bytes)
        stream.flush()
        os.fsync(stream.fileno())
    return path
