"""TCP over a websocket: each binary frame is a piece of the stream, both ways."""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import WSMsgType, web

from shipway_master.gateway.site import message_response
from shipway_master.proxy.ends import run_until_one_ends
from shipway_master.proxy.targets import Target

CONNECT_LIMIT_S = 10
_PIECE_BYTES = 1 << 16
_FRAME_LIMIT_BYTES = 1 << 24


async def tunnel(
    request: web.Request, target: Target, closing: asyncio.Event
) -> web.StreamResponse:
    """Carry one connection until a side ends it, or *closing* is set."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return message_response(400, "this service speaks TCP: ask for an upgrade to a websocket")
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            reader, writer = await asyncio.open_connection(target.host, target.port)
    except (OSError, ValueError) as error:  # ValueError: no host name; a timeout is an OSError
        return message_response(502, f"{target.authority} cannot be reached: {error}")
    try:
        socket = web.WebSocketResponse(compress=False, max_msg_size=_FRAME_LIMIT_BYTES, timeout=2.0)
        await socket.prepare(request)
        await run_until_one_ends(_send(socket, writer), _receive(reader, socket), closing.wait())
        await socket.close()
    finally:
        writer.close()
    return socket


async def _send(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # the service is gone: the tunnel ends
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()


async def _receive(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(OSError):  # the client or the service is gone: the tunnel ends
        while piece := await reader.read(_PIECE_BYTES):
            await socket.send_bytes(piece)
