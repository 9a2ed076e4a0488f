"""HTTP and websockets, passed on to a service with their path as it came."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict
from yarl import URL

from shipway_master.gateway.site import message_response
from shipway_master.proxy.ends import run_until_one_ends
from shipway_master.proxy.targets import Target

_HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OWN_COOKIE: Final = "auth"
"""The master's. It is for no task to read, nor to set."""
_FRAME_LIMIT_BYTES = 1 << 26
_FROM_CLIENT: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""What aiohttp would add by itself."""


async def forward(
    request: web.Request, target: Target, session: aiohttp.ClientSession
) -> web.StreamResponse:
    """Ask a service what was asked here; both bodies are passed on as they come."""
    headers = _request_headers(request)
    if request.headers.get("Content-Encoding"):
        for name in ("Content-Encoding", "Content-Length"):  # the server has unpacked it already
            headers.popall(name, None)
    response: web.StreamResponse | None = None
    try:
        async with session.request(
            request.method,
            _url(request, target),
            headers=headers,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=_FROM_CLIENT,
        ) as answer:
            response = web.StreamResponse(
                status=answer.status, reason=answer.reason, headers=_answer_headers(answer.headers)
            )
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        if response is None or not response.prepared:
            return message_response(502, f"{target.authority} gives no answer: {error}")
        if request.transport is not None:
            request.transport.abort()  # the only way to say that what was sent is not the whole
    return response


async def forward_websocket(
    request: web.Request, target: Target, session: aiohttp.ClientSession, closing: asyncio.Event
) -> web.StreamResponse:
    """Carry a websocket until a side ends it, or *closing* is set."""
    headers = _request_headers(request)
    offered = headers.popall("Sec-WebSocket-Protocol", [])
    for name in [name for name in headers if name.lower().startswith("sec-websocket-")]:
        headers.popall(name, None)
    protocols = [name.strip() for line in offered for name in line.split(",")]
    try:
        async with session.ws_connect(
            _url(request, target),
            headers=headers,
            protocols=protocols,
            autoping=False,
            max_msg_size=_FRAME_LIMIT_BYTES,
        ) as service:
            client = web.WebSocketResponse(
                protocols=[service.protocol] if service.protocol else [],
                autoping=False,
                compress=False,
                max_msg_size=_FRAME_LIMIT_BYTES,
                timeout=2.0,
            )
            await client.prepare(request)
            await run_until_one_ends(
                _pass_on(client, service), _pass_on(service, client), closing.wait()
            )
            await client.close(code=service.close_code or 1000)
            return client
    except aiohttp.WSServerHandshakeError as error:
        return message_response(error.status, f"{target.authority} refuses: {error.message}")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return message_response(502, f"{target.authority} gives no answer: {error}")


_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pass_on(source: _Socket, sink: _Socket) -> None:
    with contextlib.suppress(OSError):  # a side is gone: the connection ends
        async for message in source:
            match message.type:
                case WSMsgType.TEXT:
                    await sink.send_str(message.data)
                case WSMsgType.BINARY:
                    await sink.send_bytes(message.data)
                case WSMsgType.PING:
                    await sink.ping(message.data)
                case WSMsgType.PONG:
                    await sink.pong(message.data)
                case _:
                    return


def _url(request: web.Request, target: Target) -> URL:
    return URL(f"http://{target.authority}{request.raw_path}", encoded=True)


def _end_to_end(headers: CIMultiDict[str]) -> CIMultiDict[str]:
    """Take out what is meant for this connection alone."""
    named = {
        name.strip().lower()
        for line in headers.getall("Connection", [])
        for name in line.split(",")
    }
    kept = CIMultiDict[str]()
    for name, value in headers.items():
        if name.lower() not in _HOP_BY_HOP | named:
            kept.add(name, value)
    return kept


def _request_headers(request: web.Request) -> CIMultiDict[str]:
    headers = _end_to_end(CIMultiDict(request.headers))
    if headers.get("Authorization", "").startswith("Bearer "):
        del headers["Authorization"]  # the token of a user of the master
    cookies = [part.strip() for line in headers.popall("Cookie", []) for part in line.split(";")]
    kept = [part for part in cookies if part.partition("=")[0].strip() != _OWN_COOKIE]
    if kept:
        headers["Cookie"] = "; ".join(kept)
    client = request.remote or ""
    before = headers.get("X-Forwarded-For")
    headers["X-Forwarded-For"] = f"{before}, {client}" if before else client
    headers.setdefault("X-Real-Ip", client)
    headers.setdefault("X-Forwarded-Proto", request.scheme)
    return headers


def _answer_headers(answer: Mapping[str, str]) -> CIMultiDict[str]:
    headers = _end_to_end(CIMultiDict(answer))
    set_cookies = headers.popall("Set-Cookie", [])
    for line in set_cookies:
        if line.partition("=")[0].strip() != _OWN_COOKIE:
            headers.add("Set-Cookie", line)
    return headers
