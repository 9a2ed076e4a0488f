"""gzip for those who take it."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from aiohttp import web

_WORTH_BYTES = 1 << 10
_THREAD_BYTES = 1 << 18
_LEVEL = 4


def accepts_gzip(request: web.BaseRequest) -> bool:
    """Tell whether the caller of *request* takes gzip."""
    for offer in request.headers.get("Accept-Encoding", "").split(","):
        name, _, quality = offer.partition(";")
        if name.strip().lower() == "gzip":
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


async def compressed(body: bytes) -> bytes | None:
    """Compress *body*; None when it is too short to gain anything."""
    if len(body) < _WORTH_BYTES:
        return None
    if len(body) < _THREAD_BYTES:
        return gzip.compress(body, _LEVEL, mtime=0)
    return await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)


class GzipStream:
    """Compresses a stream so that what was put in can be read at once at the other end."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)

    def pack(self, data: bytes) -> bytes:
        """Compress *data* and flush."""
        return self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """End the stream."""
        return self._packer.flush(zlib.Z_FINISH)
