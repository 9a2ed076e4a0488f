"""Serves what a task may serve: pages, a long upload, a slow answer, a websocket; on port argv[1]."""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import WSMsgType, web


async def tell(request: web.Request) -> web.Response:
    """Say what arrived; try to set two cookies, one of them the master's."""
    body = await request.read()
    told = {
        "method": request.method,
        "path": request.raw_path,
        "headers": dict(request.headers),
        "bytes": len(body),
    }
    response = web.Response(text=json.dumps(told), status=207, reason="As You Like")
    response.set_cookie("auth", "stolen")
    response.set_cookie("own", "kept")
    return response


async def trickle(request: web.Request) -> web.StreamResponse:
    """Send a first piece, and the second once the client has asked `/go`."""
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"first")
    await request.app["went"].wait()
    await response.write(b"second")
    return response


async def go(request: web.Request) -> web.Response:
    """Let the slow answers go on."""
    request.app["went"].set()
    return web.Response()


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send each message back; `close` closes with a code of its own."""
    socket = web.WebSocketResponse(protocols=["two"])
    await socket.prepare(request)
    async for message in socket:
        if message.data == "close":
            await socket.close(code=4001)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        else:
            await socket.send_bytes(message.data)
    return socket


async def _start(app: web.Application) -> None:
    app["went"] = asyncio.Event()


def main() -> None:
    """Serve until killed."""
    app = web.Application(client_max_size=2**26)
    app.on_startup.append(_start)
    app.router.add_get("/{any:.*}/trickle", trickle)
    app.router.add_get("/{any:.*}/go", go)
    app.router.add_get("/{any:.*}/echo", echo)
    app.router.add_route("*", "/{any:.*}", tell)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]))


if __name__ == "__main__":
    main()
