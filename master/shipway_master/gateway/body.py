"""The body of a request: read within bounds, whatever the caller does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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
_SMALL_BYTES = 1 << 20
"""A body up to this size is read however many large ones there are."""


class Bodies:
    """Reads the bodies of requests, and bounds what all that are being read hold together."""

    def __init__(self, *, total_bytes: int = 2 * BODY_LIMIT_BYTES) -> None:
        self._left_bytes = total_bytes

    @asynccontextmanager
    async def reading(self, request: web.BaseRequest, *, limit_bytes: int) -> AsyncGenerator[bytes]:
        """Read the whole body; it is held until the block ends.

        Raises:
            ResourceExhausted: It is longer than *limit_bytes*, or there are too many large ones.
            DeadlineExceeded: It stopped arriving.
            InvalidArgument: It is not what its headers say (chunks, compression).
        """
        if (request.content_length or 0) > limit_bytes:
            raise _too_large(limit_bytes)
        held = 0
        try:
            parts: list[bytes] = []
            while part := await _read_part(request):
                held += len(part)
                self._left_bytes -= len(part)
                if held > limit_bytes:
                    raise _too_large(limit_bytes)
                if self._left_bytes < 0 and held > _SMALL_BYTES:
                    raise ResourceExhausted("too many large requests at once; repeat it later")
                parts.append(part)
            yield b"".join(parts)
        finally:
            self._left_bytes += held


async def _read_part(request: web.BaseRequest) -> bytes:
    """Read what has come, waiting for something; nothing at the end."""
    try:
        async with asyncio.timeout(_CHUNK_WAIT_S):
            return await request.content.readany()
    except TimeoutError as error:
        raise DeadlineExceeded(f"nothing more of the body came in {_CHUNK_WAIT_S} s") from error
    except (ClientPayloadError, HttpProcessingError, web.RequestPayloadError) as error:
        raise InvalidArgument(f"the body cannot be read: {error}") from error


def _too_large(limit_bytes: int) -> ResourceExhausted:
    return ResourceExhausted(f"message too large: the body is longer than {limit_bytes} bytes")
