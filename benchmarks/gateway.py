"""How many small calls per second go through the master's one port, against bare servers.

Three servers answer GetMe. "master" is the whole master, which asks its database. "gateway" is all
of the master's way for a call (route, token, request, service, answer as JSON) with a service that
answers from memory. "bare" are aiohttp and grpc alone, sending the same bytes: the limit of one
process on this machine.

    python -m benchmarks.gateway [--calls 4000] [--connections 8]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
from aiohttp import web

from shipway_master.app import running
from shipway_master.auth import Authenticator
from shipway_master.config import MasterConfig
from shipway_master.rpc import Call, Registry
from shipway_master.server import serving
from shipway_master.store.database import opened
from shipway_proto.determined.api.v1.api_pb2_grpc import DeterminedStub
from shipway_proto.determined.api.v1.user_pb2 import GetMeRequest, GetMeResponse

_SERVICE = "determined.api.v1.Determined"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = context.Pipe()
        server = context.Process(target=_serve, args=(theirs, Path(folder)), daemon=True)
        server.start()
        ports, token = ours.recv()
        try:
            asyncio.run(_measure(ports, token, options.calls, options.connections))
        finally:
            server.terminate()
            server.join()


def _serve(pipe: multiprocessing.connection.Connection, folder: Path) -> None:
    asyncio.run(_serve_all(pipe, folder))


async def _serve_all(pipe: multiprocessing.connection.Connection, folder: Path) -> None:
    settings = {"data": folder, "port": 0, "security": {"initial_user_password": "x"}}
    config = MasterConfig.model_validate(settings)
    async with running(config) as master:
        async with opened(config.db.resolve_url(folder)) as database:
            token, _ = await Authenticator(database).start_session(1)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{master.port}") as channel:
            metadata = (("authorization", f"Bearer {token}"),)
            answer = await DeterminedStub(channel).GetMe(GetMeRequest(), metadata=metadata)
        rest_port = await _bare_rest(await _body(master.port, token))
        grpc_port = await _bare_grpc(answer)
        async with opened(config.db.resolve_url(folder)) as database:
            authenticator = Authenticator(database)
            registry = Registry([_FromMemory(answer)], authenticator)
            async with serving(config, registry, authenticator, []) as gateway_port:
                pipe.send(
                    (
                        {
                            "master": master.port,
                            "gateway": gateway_port,
                            "rest": rest_port,
                            "grpc": grpc_port,
                        },
                        token,
                    )
                )
                await asyncio.Event().wait()


class _FromMemory:
    def __init__(self, answer: GetMeResponse) -> None:
        self._answer = answer

    async def GetMe(self, request: GetMeRequest, call: Call) -> GetMeResponse:  # noqa: N802
        return self._answer


async def _body(port: int, token: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = await _call(reader, writer, _request(token))
    writer.close()
    return body


async def _bare_rest(body: bytes) -> int:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/api/v1/me", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port


async def _bare_grpc(answer: GetMeResponse) -> int:
    async def get_me(request: GetMeRequest, context: object) -> GetMeResponse:
        return answer

    handler = grpc.unary_unary_rpc_method_handler(
        get_me,
        request_deserializer=GetMeRequest.FromString,
        response_serializer=GetMeResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"GetMe": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _kept.append(server)
    return port


_kept: list[object] = []


async def _measure(ports: dict[str, int], token: str, calls: int, connections: int) -> None:
    print(f"{calls} calls of GetMe over {connections} connections")
    for face, run in (("REST", _rest), ("gRPC", _grpc)):
        speeds: dict[str, float] = {}
        for _ in range(2):  # the better of two: the first warms up
            for name in ("bare", "gateway", "master"):
                port = ports[face.lower() if name == "bare" else name]
                speed = await run(port, token, calls, connections)
                speeds[name] = max(speeds.get(name, 0), speed)
        shown = (f"{name} {speed:.0f}/s" for name, speed in speeds.items())
        ratio = speeds["gateway"] / speeds["bare"]
        print(f"{face}: {', '.join(shown)}; gateway to bare {ratio:.2f}")


async def _together(work: Callable[[int], Awaitable[None]], calls: int, connections: int) -> float:
    begun = time.perf_counter()
    await asyncio.gather(*(work(calls // connections) for _ in range(connections)))
    return calls / (time.perf_counter() - begun)


async def _rest(port: int, token: str, calls: int, connections: int) -> float:
    request = _request(token)

    async def work(count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count):
            await _call(reader, writer, request)
        writer.close()

    return await _together(work, calls, connections)


async def _grpc(port: int, token: str, calls: int, connections: int) -> float:
    metadata = (("authorization", f"Bearer {token}"),)

    async def work(count: int) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            stub = DeterminedStub(channel)
            for _ in range(count):
                await stub.GetMe(GetMeRequest(), metadata=metadata)

    return await _together(work, calls, connections)


def _request(token: str) -> bytes:
    return (
        f"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        "Accept-Encoding: gzip, deflate\r\nUser-Agent: benchmark\r\n\r\n"
    ).encode()


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> bytes:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return await reader.readexactly(length)


if __name__ == "__main__":
    main()
