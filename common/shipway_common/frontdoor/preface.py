"""What the first bytes of a connection say."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD_LIMIT_BYTES: Final = 1 << 16


class Speech(StrEnum):
    """What a caller speaks."""

    HTTP1 = "http1"
    HTTP2 = "http2"


def recognize(first: bytes | bytearray) -> Speech | None:
    """Tell what begins with *first*; None: it takes more bytes to know.

    HTTP/1 is recognized when the head of the first request is complete (or too long to be one), so
    that who sends it drop by drop holds nothing but his connection.
    """
    if first.startswith(_HTTP2_PREFACE):
        return Speech.HTTP2
    if _HTTP2_PREFACE.startswith(first):
        return None
    head = first.lstrip(b"\r\n")  # a server passes over empty lines before a request
    is_whole = b"\r\n\r\n" in head or b"\n\n" in head
    return Speech.HTTP1 if is_whole or len(first) > _HEAD_LIMIT_BYTES else None
