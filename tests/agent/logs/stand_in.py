"""The part of a master that takes task logs, by gRPC and REST on one port, as the Go master does."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio
from aiohttp import web
from google.protobuf import json_format

from shipway_common.frontdoor import FrontDoor
from shipway_proto.determined.api.v1.task_pb2 import PostTaskLogsRequest, PostTaskLogsResponse
from shipway_proto.determined.task.v1.task_pb2 import TaskLog
from tests.lab.processes import free_ports

TOKEN = "log-token"
Code = grpc.StatusCode
_statuses = {
    Code.INVALID_ARGUMENT: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.RESOURCE_EXHAUSTED: 413,
    Code.INTERNAL: 500,
    Code.UNKNOWN: 500,
    Code.UNAVAILABLE: 503,
}


class LogApi:
    """Writes down the lines it is given; can refuse, be away, or lose its answers."""

    def __init__(
        self,
        *,
        has_grpc: bool = True,
        tls: ssl.SSLContext | None = None,
        routes: Sequence[web.RouteDef] = (),
        limit_bytes: int = 4 << 20,
    ) -> None:
        self._has_grpc, self._tls, self._routes, self._limit = has_grpc, tls, routes, limit_bytes
        self.port = 0
        self.token = TOKEN
        self.lines: list[TaskLog] = []
        self.calls: list[str] = []
        """`grpc` or `rest` for each batch that was tried."""
        self.questions = 0
        self.answers: deque[Code | None] = deque()
        """What the next calls are answered; None: as usual."""
        self.grpc_fails: Code | None = None
        """What all calls by gRPC are answered, as by a proxy that does not let it through."""
        self.lost_answers = 0
        """So many of the next batches are taken, and their sender told that there is no master."""
        self.refuses: Callable[[TaskLog], Code | None] = lambda line: None
        self.open = asyncio.Event()
        """Cleared: calls are not answered."""
        self.open.set()
        self._stack = AsyncExitStack()

    @property
    def texts(self) -> list[str]:
        return [line.log.removesuffix("\n") for line in self.lines]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        stack = self._stack
        app = web.Application(client_max_size=1 << 26)
        app.add_routes(
            [
                web.post("/api/v1/task/logs", self._rest),
                web.get("/api/v1/tasks/{task}/logs", self._question),
                *self._routes,
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if not self.port:  # one that nobody else gets while it is stopped
            (self.port,) = free_ports(1)
        if not self._has_grpc:
            await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
            return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        door = await stack.enter_async_context(FrontDoor(folder / "grpc"))
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", self._limit)])
        handler = grpc.unary_unary_rpc_method_handler(
            self._grpc,
            request_deserializer=PostTaskLogsRequest.FromString,
            response_serializer=PostTaskLogsResponse.SerializeToString,
        )
        service = grpc.method_handlers_generic_handler(
            "determined.api.v1.Determined", {"PostTaskLogs": handler}
        )
        server.add_generic_rpc_handlers((service,))
        server.add_insecure_port(f"unix:{folder / 'grpc'}")
        await server.start()
        stack.push_async_callback(server.stop, 0.1)
        assert runner.server is not None
        await door.listen("127.0.0.1", self.port, runner.server, tls=self._tls)
        stack.callback(door.stop_listening)

    async def stop(self) -> None:
        await self._stack.aclose()

    async def _take(self, request: PostTaskLogsRequest, token: str, way: str) -> Code | None:
        await self.open.wait()
        self.calls.append(way)
        if token != f"Bearer {self.token}":
            return Code.UNAUTHENTICATED
        if self.answers and (answer := self.answers.popleft()) is not None:
            return answer
        for line in request.logs:
            if (answer := self.refuses(line)) is not None:
                return answer
        self.lines += request.logs
        if self.lost_answers:
            self.lost_answers -= 1
            return Code.UNAVAILABLE
        return None

    async def _grpc(
        self, request: PostTaskLogsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> PostTaskLogsResponse:
        if self.grpc_fails is not None:
            self.calls.append("grpc")
            await context.abort(self.grpc_fails, "a test says so")
        metadata = dict(context.invocation_metadata() or ())
        code = await self._take(request, str(metadata.get("x-allocation-token")), "grpc")
        if code is not None:
            await context.abort(code, "a test says so")
        return PostTaskLogsResponse()

    async def _rest(self, request: web.Request) -> web.Response:
        message = json_format.Parse(await request.read(), PostTaskLogsRequest())
        token = request.headers["Grpc-Metadata-x-allocation-token"]
        code = await self._take(message, token, "rest")
        if code is not None:
            return _error(_statuses[code])
        return web.json_response({})

    async def _question(self, request: web.Request) -> web.Response:
        self.questions += 1
        if request.headers["Grpc-Metadata-x-allocation-token"] != f"Bearer {self.token}":
            return _error(401)
        wanted = request.query
        assert (wanted["limit"], wanted["orderBy"]) == ("1", "ORDER_BY_DESC")
        for line in reversed(self.lines):
            if (line.container_id, line.source) == (wanted["containerIds"], wanted["sources"]):
                time = line.timestamp.ToJsonString()
                return web.json_response({"result": {"log": line.log, "timestamp": time}})
        return web.Response()


def _error(status: int) -> web.Response:
    return web.json_response({"error": {"code": 3, "error": "a test says so"}}, status=status)
