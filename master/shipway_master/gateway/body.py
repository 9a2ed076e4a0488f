"""The body of a request: read within bounds, whatever the caller does."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError

from shipway_master.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted

MESSAGE_LIMIT_BYTES: Final = 96 << 20
"""No message is larger, on either face."""
BODY_LIMIT_BYTES: Final = MESSAGE_LIMIT_BYTES // 3 * 4 + (1 << 20)
"""In JSON the same message is larger: base64 makes four characters of three bytes."""
ANONYMOUS_LIMIT_BYTES: Final = 1 << 20
"""Nobody known sends more than a log-in."""

_CHUNK_WAIT_S = 30


async def read_body(request: web.BaseRequest, *, limit_bytes: int) -> bytes:
    """Read the whole body.

    Raises:
        ResourceExhausted: It is longer than *limit_bytes*.
        DeadlineExceeded: It stopped arriving.
        InvalidArgument: It is not what its headers say (chunks, compression).
    """
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            async with asyncio.timeout(_CHUNK_WAIT_S):
                part = await request.content.readany()
            if not part:
                return b"".join(parts)
            size += len(part)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            parts.append(part)
    except TimeoutError as error:
        raise DeadlineExceeded(f"nothing more of the body came in {_CHUNK_WAIT_S} s") from error
    except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError) as error:
        raise InvalidArgument(f"the body cannot be read: {error}") from error


def _too_large(limit_bytes: int) -> ResourceExhausted:
    return ResourceExhausted(f"message too large: the body is longer than {limit_bytes} bytes")
