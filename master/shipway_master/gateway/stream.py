"""Server streams over HTTP: one JSON object per line, sent as it comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from aiohttp import web
from google.protobuf.message import Message

from shipway_master.errors import Internal, MasterError, stream_error_body
from shipway_master.gateway.compress import GzipStream, accepts_gzip
from shipway_master.gateway.encode import dump, to_json

log = logging.getLogger(__name__)

_BUFFER_BYTES = 1 << 18


async def send_stream(request: web.Request, items: AsyncIterator[Message]) -> web.StreamResponse:
    """Send *items* until they end or fail; the headers go out before there is a first one.

    Lines that are ready at the same time are sent together, and no more is taken from *items*
    than the caller reads. When he hangs up, aiohttp cancels this.
    """
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    packer = GzipStream() if accepts_gzip(request) else None
    if packer is not None:
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Vary"] = "Accept-Encoding"
    try:
        await response.prepare(request)
    except ConnectionError:
        log.debug("the reader of a stream hung up before its beginning")
        return response
    lines = _Lines()
    try:
        async with asyncio.TaskGroup() as group:
            producer = group.create_task(_collect(items, lines), name="stream producer")
            while (data := await lines.take()) is not None:
                await response.write(data if packer is None else packer.pack(data))
            await asyncio.wait([producer])
            if not producer.cancelled():
                await response.write_eof(b"" if packer is None else packer.finish())
            elif request.transport is not None:
                request.transport.abort()  # without its end, so that nobody takes it for whole
    except* ConnectionError:
        log.debug("the reader of a stream hung up")
    return response


async def _collect(items: AsyncIterator[Message], lines: _Lines) -> None:
    try:
        async for item in items:
            await lines.put(b'{"result":' + to_json(item) + b"}\n")
    except MasterError as error:
        await lines.put(dump(stream_error_body(error)))
    except Exception:
        log.exception("an item of a stream cannot be written")
        await lines.put(dump(stream_error_body(Internal("internal error"))))
    finally:
        lines.end()


class _Lines:
    """A buffer between the producer of lines and their sender, bounded by its size in bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._has_ended = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, line: bytes) -> None:
        self._data += line
        self._filled.set()
        while len(self._data) >= _BUFFER_BYTES:
            self._emptied.clear()
            await self._emptied.wait()

    def end(self) -> None:
        self._has_ended = True
        self._filled.set()

    async def take(self) -> bytes | None:
        """Take all that is there, waiting for something; None after the end."""
        await self._filled.wait()
        data = bytes(self._data)
        self._data.clear()
        self._emptied.set()
        if not self._has_ended:
            self._filled.clear()
        return data or None
