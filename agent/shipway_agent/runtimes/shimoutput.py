"""How a shim puts bytes on disk so that a full disk costs as little as possible, and visibly."""

from __future__ import annotations

import os
from pathlib import Path

from shipway_agent.runtimes.chunks import STDERR
from shipway_agent.runtimes.shimfiles import ExitRecord, encode_frame, encode_record
from shipway_common.files import fsync_folder

_TAIL_BYTES = 4096
_RESERVED_BYTES = 16384


class OutputFile:
    """The output of a task, in the order in which it was read, as frames.

    What cannot be written is dropped, never the task held up; a note stands in its place.
    """

    def __init__(self, path: Path) -> None:
        # O_EXCL: a second shim for the same folder must not start.
        self._descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._size_bytes = 0
        self._lost_bytes = 0
        self._problem = ""
        self.stderr_tail = b""
        """The last that came on stderr, whether it could be written or not."""

    def write(self, stream: int, data: bytes) -> None:
        """Append a piece of output."""
        if stream == STDERR:
            self.stderr_tail = (self.stderr_tail + data)[-_TAIL_BYTES:]
        if self._lost_bytes and not self._append(STDERR, self._note()):
            self._lost_bytes += len(data)
            return
        self._lost_bytes = 0
        if not self._append(stream, data):
            self._lost_bytes = len(data)

    def close(self) -> None:
        """Note a loss at the very end, and close."""
        if self._lost_bytes:
            self._append(STDERR, self._note())
        os.close(self._descriptor)

    def _note(self) -> bytes:
        text = f"[shipway: {self._lost_bytes} bytes of output were lost here: {self._problem}]\n"
        return text.encode()

    def _append(self, stream: int, data: bytes) -> bool:
        frame = memoryview(encode_frame(stream, data))
        written = 0
        try:
            while written < len(frame):
                written += os.write(self._descriptor, frame[written:])
        except OSError as error:
            self._problem = error.strerror or str(error)
            os.ftruncate(self._descriptor, self._size_bytes)  # half a frame would hide the next
            return False
        self._size_bytes += written
        return True


class ReservedRecord:
    """A record whose place on disk is taken before it is known, so that it always fits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = path.with_name(f".{path.name}.reserved")
        with self._place.open("wb") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(b" " * _RESERVED_BYTES)
            stream.flush()
            os.fsync(stream.fileno())

    def save(self, record: ExitRecord) -> None:
        """Put *record* where it belongs, whole or not at all; readers skip the blanks after it."""
        data = encode_record(record)
        with self._place.open("r+b") as stream:
            stream.write(data.ljust(_RESERVED_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(self._place, self._path)
        fsync_folder(self._path.parent)
