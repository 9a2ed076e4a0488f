"""Streams over HTTP, with producers that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from shipway_master.errors import NotFound
from shipway_master.gateway.stream import send_stream
from shipway_proto.determined.api.v1.task_pb2 import TaskLogsResponse


@asynccontextmanager
async def serving(items: AsyncGenerator[TaskLogsResponse]) -> AsyncGenerator[int]:
    """Serve *items* as a stream on a free port."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await send_stream(request, items)

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        await items.aclose()


async def read_all(port: int) -> list[bytes]:
    """Read a stream without any client library: head and body, chunks undone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    writer.close()
    return [head, body]


async def test_an_error_after_the_first_line_is_told_in_the_last_one() -> None:
    async def items() -> AsyncGenerator[TaskLogsResponse]:
        yield TaskLogsResponse(id="1")
        raise NotFound("task", "t")

    async with serving(items()) as port:
        head, body = await read_all(port)

    lines = body.split(b"\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(lines[0])["result"]["id"] == "1"
    assert json.loads(lines[1])["error"]["message"] == "task 't' not found"
    assert not body.endswith(b"\n")


async def test_lines_that_are_ready_together_go_out_together() -> None:
    async def items() -> AsyncGenerator[TaskLogsResponse]:
        for number in range(100):
            yield TaskLogsResponse(id=str(number))

    async with serving(items()) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        chunk = await reader.readexactly(int(await reader.readline(), 16))
        writer.close()

    assert chunk.count(b"\n") == 100


async def test_a_caller_who_does_not_read_stops_the_producer() -> None:
    made = 0

    async def items() -> AsyncGenerator[TaskLogsResponse]:
        nonlocal made
        while True:
            made += 1
            yield TaskLogsResponse(log="x" * 10_000)

    async with serving(items()) as port:
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            before = -1
            while before != made or not made:
                before = made
                await asyncio.sleep(0.2)

    assert made * 10_000 < 16 << 20
