"""Messages on a byte stream that others may write into: what both ends of an SSH link speak.

A frame begins with a mark of this session's own, and its length and checksum follow. What stands
between two frames (a start-up file's background job that prints) is skipped; what stands within one
is found by the checksum. Large messages are cut, so that none holds up the others for long.

Goes to the far machine as source text, so it needs nothing but the standard library.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MARK_BYTES = 16
PIECE_BYTES = 1 << 16
MESSAGE_LIMIT_BYTES = 2 << 30

_HEADER = struct.Struct(">IBII")  # call, kind, length, checksum

HEAD = 1
"""Begins a message: a JSON object."""
BODY = 2
"""A piece of a message's bytes."""
END = 3
"""Ends a message."""
BEAT = 4
"""Says that the other end is there."""
CANCEL = 5
"""The answer of a call is no longer wanted, and what it started is to end."""


class StreamBroken(Exception):
    """The stream holds what neither end has written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A question or its answer."""

    call: int
    """Its number; an answer has that of its question."""
    head: dict[str, Any]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One piece."""

    call: int
    kind: int
    payload: bytes


def encode_frame(mark: bytes, call: int, kind: int, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    checksum = zlib.crc32(payload, call << 3 ^ kind)
    return b"".join((mark, _HEADER.pack(call, kind, len(payload), checksum), payload))


def encode_message(mark: bytes, message: Message) -> Iterator[bytes]:
    """Yield a message's frames; between any two, frames of other messages may be sent.

    Texts may hold surrogates, which stand for bytes that are no UTF-8.
    """
    yield encode_frame(mark, message.call, HEAD, json.dumps(message.head).encode())
    body = memoryview(message.body)
    for start in range(0, len(body), PIECE_BYTES):
        yield encode_frame(mark, message.call, BODY, bytes(body[start : start + PIECE_BYTES]))
    yield encode_frame(mark, message.call, END)


class FrameReader:
    """Finds the frames in what arrives."""

    def __init__(self, mark: bytes) -> None:
        """Look for frames that begin with *mark*."""
        self._mark = mark
        self._buffer = bytearray()
        self.noise_bytes = 0
        """How much was skipped because it was no frame."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take what has arrived and yield the frames that are whole.

        Raises:
            StreamBroken: Something has been written into a frame.
        """
        self._buffer += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> Frame | None:
        buffer = self._buffer
        start = buffer.find(self._mark)
        skipped = max(0, len(buffer) - len(self._mark) + 1) if start < 0 else start
        self.noise_bytes += skipped
        del buffer[:skipped]
        begin = len(self._mark) + _HEADER.size
        if start < 0 or len(buffer) < begin:
            return None
        call, kind, length, checksum = _HEADER.unpack_from(buffer, len(self._mark))
        if not HEAD <= kind <= CANCEL or length > max(PIECE_BYTES, 1 << 24):
            raise StreamBroken("a frame of a kind or length that nobody sends")
        if len(buffer) < begin + length:
            return None
        payload = bytes(buffer[begin : begin + length])
        if zlib.crc32(payload, call << 3 ^ kind) != checksum:
            raise StreamBroken("something else has written into a frame")
        del buffer[: begin + length]
        return Frame(call=call, kind=kind, payload=payload)


class Assembly:
    """Puts messages together again from frames that arrive mixed."""

    def __init__(self) -> None:
        """Begin with none."""
        self._heads: dict[int, dict[str, Any]] = {}
        self._bodies: dict[int, bytearray] = {}

    def add(self, frame: Frame) -> Message | None:
        """Take a frame; return the message that it completes.

        Raises:
            StreamBroken: It does not fit to what came before.
        """
        match frame.kind:
            case 1:  # HEAD
                self._heads[frame.call] = json.loads(frame.payload)
                self._bodies[frame.call] = bytearray()
            case 2:  # BODY
                body = self._bodies.get(frame.call)
                if body is None or len(body) > MESSAGE_LIMIT_BYTES:
                    raise StreamBroken("a piece of no message, or of one without an end")
                body += frame.payload
            case 3:  # END
                if frame.call not in self._heads:
                    raise StreamBroken("the end of no message")
                head = self._heads.pop(frame.call)
                return Message(call=frame.call, head=head, body=bytes(self._bodies.pop(frame.call)))
            case _:
                pass
        return None

    def drop(self, call: int) -> None:
        """Forget what has come of a message."""
        self._heads.pop(call, None)
        self._bodies.pop(call, None)
