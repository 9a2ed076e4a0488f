"""A stand-in for the master: one port for gRPC and REST, told apart as the real one does.

The RPCs are the real messages through a real gRPC server; what they do is only written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Self

import grpc
import grpc.aio
from aiohttp import web

from shipway_proto.determined.api.v1 import task_pb2, trial_pb2
from shipway_proto.determined.task.v1.task_pb2 import TaskLog
from tests.lab.processes import free_ports

TOKEN = "job-token"
TASK = "3f0c8d52-5d7a-4c1f-9e5b-111111111111"
ALLOCATION = f"{TASK}.1"
TRIAL = 7
AUTH = {"Grpc-Metadata-x-allocation-token": f"Bearer {TOKEN}"}


class StandInMaster:
    """Records what reaches it; may be stopped and started again on the same port."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self._tls = tls
        self.batches: list[list[TaskLog]] = []
        self.preemptions: list[str] = []
        self.running: list[trial_pb2.NotifyContainerRunningRequest] = []
        self.gathers: list[trial_pb2.AllocationAllGatherRequest] = []
        self.readings: list[Any] = []
        self.ready: list[str] = []
        self.acknowledged: list[str] = []
        self.questions = 0
        self.lose_answers = 0
        """So many of the next calls are carried out, and their answers lost."""
        self.refusals: dict[str, tuple[grpc.StatusCode, str]] = {}
        self.refuse_log: Callable[[TaskLog], bool] = lambda log: False
        self.proxies: list[str] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.hold_answers = asyncio.Event()
        """While it is not set, calls are carried out and not answered."""
        self.hold_answers.set()
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = _no_answer
        self._stack = contextlib.AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[str]:
        return [log.log for batch in self.batches for log in batch]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 96 << 20)])
        server.add_generic_rpc_handlers((self._handlers(),))
        grpc_port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._serve_http)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._stack.push_async_callback(runner.cleanup)
        self._switch = Switch(grpc_port, runner.addresses[0][1], self._tls)
        if not self.port:  # one that nobody else gets while it is stopped
            (self.port,) = free_ports(1)
        await self._switch.listen(self.port)
        self._stack.push_async_callback(self._switch.close)

    async def stop(self) -> None:
        await self._stack.aclose()
        # A gRPC server schedules one more call when it is collected, and needs its loop for that.
        gc.collect()
        await asyncio.sleep(0.01)

    def _handlers(self) -> grpc.GenericRpcHandler:
        calls: dict[str, tuple[Any, Callable[[Any, Any], Awaitable[Any]]]] = {
            "PostTaskLogs": (task_pb2.PostTaskLogsRequest, self._post_logs),
            "AllocationPendingPreemptionSignal": (
                trial_pb2.AllocationPendingPreemptionSignalRequest,
                self._preempt,
            ),
            "NotifyContainerRunning": (trial_pb2.NotifyContainerRunningRequest, self._running),
            "AllocationAllGather": (trial_pb2.AllocationAllGatherRequest, self._gather),
            "PostTrialProfilerMetricsBatch": (
                trial_pb2.PostTrialProfilerMetricsBatchRequest,
                self._post_metrics,
            ),
            "AllocationReady": (task_pb2.AllocationReadyRequest, self._ready),
            "AckAllocationPreemptionSignal": (
                trial_pb2.AckAllocationPreemptionSignalRequest,
                self._acknowledge,
            ),
            "PostAllocationProxyAddress": (
                trial_pb2.PostAllocationProxyAddressRequest,
                self._proxy_address,
            ),
        }
        streams: dict[str, tuple[Any, Callable[[Any], list[Any]]]] = {
            "TaskLogs": (task_pb2.TaskLogsRequest, self._task_logs),
            "GetTrialProfilerMetrics": (
                trial_pb2.GetTrialProfilerMetricsRequest,
                self._profiler_metrics,
            ),
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                self._checked(name, handler),
                request_deserializer=message.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, (message, handler) in calls.items()
        } | {
            name: grpc.unary_stream_rpc_method_handler(
                self._streamed(name, find),
                request_deserializer=message.FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, (message, find) in streams.items()
        }
        return grpc.method_handlers_generic_handler("determined.api.v1.Determined", handlers)

    def _checked(self, name: str, handler: Callable[[Any, Any], Awaitable[Any]]) -> Any:
        async def checked(request: Any, context: Any) -> Any:
            await self._check(name, context)
            answer = await handler(request, context)
            await self.hold_answers.wait()
            if self.lose_answers > 0:
                self.lose_answers -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
            return answer

        return checked

    def _streamed(self, name: str, find: Callable[[Any], list[Any]]) -> Any:
        async def stream(request: Any, context: Any) -> Any:
            await self._check(name, context)
            self.questions += 1
            for answer in find(request):
                yield answer

        return stream

    async def _check(self, name: str, context: Any) -> None:
        await self.hold.wait()
        metadata = dict(context.invocation_metadata())
        if metadata.get("x-allocation-token") != f"Bearer {TOKEN}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "invalid credentials")
        if name in self.refusals:
            await context.abort(*self.refusals[name])

    def _task_logs(self, request: task_pb2.TaskLogsRequest) -> list[Any]:
        """Answer as the contract has it: after one time, until and with another."""
        before, after = request.timestamp_before, request.timestamp_after
        return [
            task_pb2.TaskLogsResponse(
                timestamp=line.timestamp,
                task_id=line.task_id,
                agent_id=line.agent_id,
                container_id=line.container_id,
                log=line.log,
            )
            for batch in self.batches
            for line in batch
            if line.allocation_id in request.allocation_ids
            and after.ToNanoseconds() < line.timestamp.ToNanoseconds() <= before.ToNanoseconds()
        ]

    def _profiler_metrics(self, request: trial_pb2.GetTrialProfilerMetricsRequest) -> list[Any]:
        return [
            trial_pb2.GetTrialProfilerMetricsResponse(batch=batch)
            for batch in self.readings
            if batch.labels == request.labels
        ]

    async def _post_metrics(
        self, request: trial_pb2.PostTrialProfilerMetricsBatchRequest, context: Any
    ) -> Any:
        self.readings += request.batches
        return trial_pb2.PostTrialProfilerMetricsBatchResponse()

    async def _ready(self, request: task_pb2.AllocationReadyRequest, context: Any) -> Any:
        self.ready.append(request.allocation_id)
        return task_pb2.AllocationReadyResponse()

    async def _acknowledge(
        self, request: trial_pb2.AckAllocationPreemptionSignalRequest, context: Any
    ) -> Any:
        self.acknowledged.append(request.allocation_id)
        return trial_pb2.AckAllocationPreemptionSignalResponse()

    async def _proxy_address(
        self, request: trial_pb2.PostAllocationProxyAddressRequest, context: Any
    ) -> Any:
        self.proxies.append(request.proxy_address)
        context.set_trailing_metadata((("x-trail", "end"),))
        return trial_pb2.PostAllocationProxyAddressResponse()

    async def _post_logs(self, request: task_pb2.PostTaskLogsRequest, context: Any) -> Any:
        if any(self.refuse_log(log) for log in request.logs):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a bad line")
        self.batches.append(list(request.logs))
        return task_pb2.PostTaskLogsResponse()

    async def _preempt(self, request: Any, context: Any) -> Any:
        self.preemptions.append(request.allocation_id)
        return trial_pb2.AllocationPendingPreemptionSignalResponse()

    async def _running(self, request: Any, context: Any) -> Any:
        self.running.append(request)
        return trial_pb2.NotifyContainerRunningResponse()

    async def _gather(
        self, request: trial_pb2.AllocationAllGatherRequest, context: Any
    ) -> trial_pb2.AllocationAllGatherResponse:
        self.gathers.append(request)
        return trial_pb2.AllocationAllGatherResponse(data=[request.data])

    async def _serve_http(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request)


async def _no_answer(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


class Switch:
    """Passes each connection to the gRPC or the HTTP port, by its first bytes."""

    def __init__(self, grpc_port: int, http_port: int, tls: ssl.SSLContext | None) -> None:
        self._grpc_port, self._http_port, self._tls = grpc_port, http_port, tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=self._tls)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamWriter | None = None
        self._writers.add(writer)
        try:
            first = await reader.read(65536)
            port = self._grpc_port if first.startswith(b"PRI * ") else self._http_port
            answers, back = await asyncio.open_connection("127.0.0.1", port)
            back.write(first)
            async with asyncio.TaskGroup() as group:
                group.create_task(_copy(reader, back))
                group.create_task(_copy(answers, writer))
        except* OSError:
            pass
        finally:
            self._writers.discard(writer)
            for one in (writer, back):
                if one is not None:
                    one.transport.abort()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    raise ConnectionResetError  # one side closed; so does the other
