"""Connections that begin as gRPC does and go on as nothing does."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Mapping
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _END_HEADERS = 1, 4


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Build one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(fields: Mapping[str, str], *, stream: int = 1, flags: int = _END_HEADERS) -> bytes:
    """Build a frame of headers, none of them compressed."""
    block = b"".join(
        b"\0" + _text(name.encode()) + _text(value.encode()) for name, value in fields.items()
    )
    return frame(_HEADERS, block, flags=flags, stream=stream)


def _text(data: bytes) -> bytes:
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, length = len(data) - 127, b"\x7f"
    while rest >= 128:
        length += bytes([rest % 128 + 128])
        rest //= 128
    return length + bytes([rest]) + data


def call_headers(token: str, *, path: str = "/determined.api.v1.Determined/GetAgents") -> bytes:
    """Build the headers of a call."""
    return headers(
        {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "master",
            "content-type": "application/grpc",
            "te": "trailers",
            "authorization": f"Bearer {token}",
        }
    )


def make_conversations(token: str, rng: random.Random) -> dict[str, bytes]:
    """Write what callers say, by what is wrong with it."""
    hello = PREFACE + frame(_SETTINGS)
    begun = hello + call_headers(token)
    message = struct.pack(">BI", 0, 4) + b"\x08\x01\x10\x01"
    return {
        "preface alone": PREFACE,
        "half a preface": PREFACE[:9],
        "no settings": PREFACE + call_headers(token),
        "junk after the preface": hello + rng.randbytes(3000),
        "a frame longer than allowed": hello + struct.pack(">I", 2**24 - 1)[1:] + b"\0" * 6,
        "data on a stream nobody opened": hello + frame(_DATA, message, stream=7),
        "headers on stream 0": hello + headers({":method": "POST"}, stream=0),
        "an even stream": hello + headers({":method": "POST"}, stream=2),
        "no path": hello + headers({":method": "POST", "content-type": "application/grpc"}),
        "no content type": hello + headers({":method": "POST", ":path": "/", ":scheme": "http"}),
        "a path that is none": hello + call_headers(token, path="\0/../.."),
        "upper case names": hello + headers({":method": "POST", "X-Up": "a"}),
        "headers that cannot be unpacked": hello
        + frame(_HEADERS, b"\xff" * 40, flags=_END_HEADERS, stream=1),
        "headers without an end": hello
        + headers({":method": "POST"}, flags=0)
        + frame(_CONTINUATION, b"\0\1a\1b" * 1000, stream=1) * 50,
        "a message shorter than it says": begun
        + frame(_DATA, struct.pack(">BI", 0, 999) + b"a", flags=_END_STREAM, stream=1),
        "a message longer than allowed": begun
        + frame(_DATA, struct.pack(">BI", 0, 2**32 - 1) + b"a", stream=1),
        "a packed message that is none": begun
        + frame(_DATA, struct.pack(">BI", 1, 4) + b"abcd", flags=_END_STREAM, stream=1),
        "an unknown flag of a message": begun
        + frame(_DATA, struct.pack(">BI", 77, 4) + b"abcd", flags=_END_STREAM, stream=1),
        "no message": begun + frame(_DATA, flags=_END_STREAM, stream=1),
        "two messages": begun + frame(_DATA, message * 2, flags=_END_STREAM, stream=1),
        "a message that is none": begun
        + frame(_DATA, struct.pack(">BI", 0, 4) + b"\xff" * 4, flags=_END_STREAM, stream=1),
        "streams opened and dropped": hello
        + b"".join(
            call_headers(token)[:5]
            + struct.pack(">I", number)
            + call_headers(token)[9:]
            + frame(_RESET, b"\0\0\0\x08", stream=number)
            for number in range(1, 2001, 2)
        ),
        "a flood of pings": hello + frame(_PING, b"12345678") * 2000,
        "a flood of settings": hello + frame(_SETTINGS, struct.pack(">HI", 4, 1)) * 2000,
        "settings that are none": hello + frame(_SETTINGS, b"abc"),
        "a window that overflows": begun + frame(_WINDOW, b"\x7f\xff\xff\xff", stream=1) * 2,
        "a window of nothing": begun + frame(_WINDOW, b"\0\0\0\0", stream=1),
        "unknown frames": begun + frame(99, b"x" * 1000, flags=255, stream=1) * 100,
        "goodbye at once": begun + frame(_GOAWAY, b"\0" * 8),
    }


async def converse(port: int, said: bytes, *, limit_s: float = 0.5) -> bytes:
    """Say something to a port, and hear what it answers until it hangs up or *limit_s* is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    heard = b""
    try:
        async with asyncio.timeout(limit_s):
            writer.write(said)
            while piece := await reader.read(1 << 16):
                heard = (heard + piece)[: 1 << 20]
    except (TimeoutError, ConnectionError):
        pass  # it waits for more, or has heard enough
    finally:
        writer.close()
    return heard
