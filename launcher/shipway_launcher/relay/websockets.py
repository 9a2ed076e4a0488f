"""Websockets that jobs open to the master: message by message, both ways, until one end closes."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import WSMsgType, hdrs, web
from multidict import CIMultiDict

_MESSAGE_BYTES = 96 << 20
_CLOSE_S = 10.0


class HandshakeRefused(Exception):
    """The master's answer to the request for a websocket is an answer of another kind."""

    def __init__(self, answer: HttpAnswer) -> None:
        super().__init__(f"the websocket was answered {answer.status}")
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """An answer, read to its end."""

    status: int
    reason: str | None
    headers: Any
    body: bytes


def is_websocket(request: web.Request) -> bool:
    """Say whether a request asks for a websocket."""
    return (
        request.method == hdrs.METH_GET
        and request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"
        and "upgrade" in request.headers.get(hdrs.CONNECTION, "").lower()
    )


async def keep_refusal(answer: aiohttp.ClientResponse) -> None:
    """Check a handshake's answer, for a session's `raise_for_status`.

    Raises:
        HandshakeRefused: It is no websocket; holds all of the answer.
    """
    if answer.status != 101:
        body = await answer.read()
        raise HandshakeRefused(
            HttpAnswer(
                status=answer.status, reason=answer.reason, headers=answer.headers, body=body
            )
        )


def handshake_headers(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Return what of a handshake is for the other end; each hop makes its own key."""
    return CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if not name.lower().startswith("sec-websocket-")
    )


def wanted_protocols(request: web.Request) -> list[str]:
    """Return the subprotocols that the caller offers, in its order."""
    return [
        name.strip()
        for value in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ())
        for name in value.split(",")
        if name.strip()
    ]


async def join(request: web.Request, far: aiohttp.ClientWebSocketResponse) -> web.WebSocketResponse:
    """Accept the caller's websocket and carry messages between it and *far*."""
    near = web.WebSocketResponse(
        autoclose=False,
        autoping=False,
        compress=False,
        max_msg_size=_MESSAGE_BYTES,
        protocols=() if far.protocol is None else (far.protocol,),
        timeout=_CLOSE_S,
    )
    await near.prepare(request)
    async with asyncio.TaskGroup() as group:
        ways = [group.create_task(_carry(near, far)), group.create_task(_carry(far, near))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
    return near


async def connect(
    session: aiohttp.ClientSession,
    url: Any,
    headers: CIMultiDict[str],
    protocols: list[str],
    *,
    trust: ssl.SSLContext,
    server_hostname: str | None,
) -> aiohttp.ClientWebSocketResponse:
    """Open the websocket at the master.

    Raises:
        HandshakeRefused: The master answers something else.
        aiohttp.ClientError: It cannot be reached.
    """
    return await session.ws_connect(
        url,
        headers=handshake_headers(headers),
        protocols=protocols,
        autoclose=False,
        autoping=False,
        max_msg_size=_MESSAGE_BYTES,
        timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),  # pyright: ignore[reportCallIssue]
        ssl=trust,
        server_hostname=server_hostname,
    )


_End = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _carry(source: _End, target: _End) -> None:
    """Carry messages until *source* ends, and end *target* as it did."""
    while True:
        message = await source.receive()
        match message.type:
            case WSMsgType.TEXT:
                await target.send_str(message.data)
            case WSMsgType.BINARY:
                await target.send_bytes(message.data)
            case WSMsgType.PING:
                await target.ping(message.data)
            case WSMsgType.PONG:
                await target.pong(message.data)
            case WSMsgType.CLOSE:
                code = message.data or aiohttp.WSCloseCode.OK
                text = (message.extra or "").encode()
                await target.close(code=code, message=text)
                await source.close(code=code, message=text)
                return
            case _:  # the connection broke
                await target.close(code=aiohttp.WSCloseCode.GOING_AWAY)
                return
