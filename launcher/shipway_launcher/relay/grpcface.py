"""The gRPC face: the calls that the relay answers itself, and all others by the way of the master.

Messages are bytes here; those that pass through are not looked into.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from shipway_launcher.relay.answers import code_of, text_of
from shipway_launcher.relay.calls import Calls
from shipway_launcher.relay.errors import BadRequest, MasterUnreachable, RelayError
from shipway_launcher.relay.jobs import Job
from shipway_launcher.relay.master import SERVICE, MasterRpc, Metadata
from shipway_launcher.relay.messages import POST_LOGS, POST_METRICS, parse_allocation_id
from shipway_launcher.relay.sending import LargeAnswers
from shipway_launcher.relay.signals import SIGNALS
from shipway_proto.determined.api.v1 import task_pb2 as api_task
from shipway_proto.determined.api.v1 import trial_pb2 as api_trial

log = logging.getLogger(__name__)

_MESSAGE_BYTES = 96 << 20
_STOP_S = 2.0
_CALLS_AT_ONCE = 1 << 16
_TOKENS = ("x-user-token", "x-allocation-token")
_speaks_for_allocation = frozenset(
    {
        "MarkAllocationResourcesDaemon",
        "PostAllocationAcceleratorData",
        "PostAllocationProxyAddress",
    }
)
"""Calls that pass through, and whose first field is the allocation that they are about."""
_of_one_hop = frozenset({"user-agent", "te", "content-type", "grpc-timeout", "grpc-encoding"})

_Context = grpc.aio.ServicerContext[bytes, bytes]
_Own = Callable[[bytes, Job, Metadata], Awaitable[bytes]]
_Request = TypeVar("_Request", bound=Message)


class GrpcFace(grpc.GenericRpcHandler):
    """Answers every RPC of the API."""

    def __init__(
        self, calls: Calls, master: MasterRpc, large: LargeAnswers, *, master_wait_s: float
    ) -> None:
        self._calls, self._master, self._large = calls, master, large
        self._master_wait_s = master_wait_s
        self._own: dict[str, _Own] = {
            POST_LOGS: self._post_logs,
            POST_METRICS: self._post_metrics,
            "NotifyContainerRunning": self._notify_running,
            **{rpc: self._signal(rpc) for rpc in SIGNALS},
        }

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See `grpc.GenericRpcHandler`."""
        method = handler_call_details.method
        service, _, rpc = method.strip("/").rpartition("/")
        if service != SERVICE:
            return None

        async def handle(requests: AsyncIterator[bytes], context: _Context) -> None:
            await self._handle(rpc, method, requests, context)

        # Over the wire a call of one message is a stream of one.
        return grpc.stream_stream_rpc_method_handler(
            cast("Any", handle), request_deserializer=None, response_serializer=None
        )

    async def _handle(
        self, rpc: str, method: str, requests: AsyncIterator[bytes], context: _Context
    ) -> None:
        metadata = _find_token(context)
        job = None if metadata is None else self._calls.find_job(metadata)
        try:
            if job is None or metadata is None:
                await self._pass(method, requests, context)
            elif rpc in self._own:
                answer = await self._own[rpc](await _only(requests), job, metadata)
                await context.write(answer)
            elif rpc == "AllocationAllGather":
                gather = _read(api_trial.AllocationAllGatherRequest, await _only(requests))
                gathered = await self._calls.all_gather(job, metadata, gather)
                await self._large.send_message(context, gathered.message)
            elif rpc in _speaks_for_allocation:
                message = await _only(requests)
                job.check_allocation(_allocation_of(message))
                await self._pass(method, _one(message), context)
            else:
                await self._pass(method, requests, context)
        except RelayError as error:
            await context.abort(code_of(error), text_of(error))

    async def _post_logs(self, message: bytes, job: Job, metadata: Metadata) -> bytes:
        request = _read(api_task.PostTaskLogsRequest, message)
        await self._calls.post_logs(job, metadata, request)
        return api_task.PostTaskLogsResponse().SerializeToString()

    async def _post_metrics(self, message: bytes, job: Job, metadata: Metadata) -> bytes:
        request = _read(api_trial.PostTrialProfilerMetricsBatchRequest, message)
        await self._calls.post_metrics(job, metadata, request)
        return api_trial.PostTrialProfilerMetricsBatchResponse().SerializeToString()

    def _signal(self, rpc: str) -> _Own:
        async def handle(message: bytes, job: Job, metadata: Metadata) -> bytes:
            await self._calls.signal(job, metadata, rpc, _allocation_of(message))
            return b""  # their answers have no fields

        return handle

    async def _notify_running(self, message: bytes, job: Job, metadata: Metadata) -> bytes:
        request = _read(api_trial.NotifyContainerRunningRequest, message)
        await self._calls.notify_running(job, metadata, request)
        return api_trial.NotifyContainerRunningResponse().SerializeToString()

    async def _pass(self, method: str, requests: AsyncIterator[bytes], context: _Context) -> None:
        """Pass a call on and its answers back, as they come."""
        channel = await self._ready_channel()
        invoke = cast(
            "Callable[..., grpc.aio.StreamStreamCall[bytes, bytes]]",
            channel.stream_stream(  # pyright: ignore[reportUnknownMemberType]
                method, request_serializer=None, response_deserializer=None
            ),
        )
        call = invoke(requests, metadata=_end_to_end(context), timeout=context.time_remaining())
        try:
            await context.send_initial_metadata(tuple(await call.initial_metadata()))
            async for answer in call:
                await context.write(answer)
            context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as error:
            await _abort_as(context, error)
        finally:
            call.cancel()

    async def _ready_channel(self) -> grpc.aio.Channel:
        try:
            async with asyncio.timeout(self._master_wait_s):
                channel = await self._master.channel()
                await channel.channel_ready()
                return channel
        except TimeoutError as error:
            raise MasterUnreachable("the master does not answer") from error


@asynccontextmanager
async def serving_grpc(face: GrpcFace, socket: Path) -> AsyncGenerator[None]:
    """Serve *face* on a private socket, behind the front door.

    Raises:
        OSError: The socket cannot be made.
    """
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", _MESSAGE_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            # By default some of a thousand calls that come at once are cancelled unseen.
            ("grpc.server.max_pending_requests", _CALLS_AT_ONCE),
            ("grpc.server.max_pending_requests_hard_limit", _CALLS_AT_ONCE),
        )
    )
    server.add_generic_rpc_handlers((face,))
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:
        raise OSError(f"gRPC cannot listen on {socket}; set TMPDIR to a shorter path") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(_STOP_S)


async def _abort_as(context: _Context, error: grpc.aio.AioRpcError) -> NoReturn:
    trailing = tuple(error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", trailing)
    raise AssertionError("abort raises")


async def _only(requests: AsyncIterator[bytes]) -> bytes:
    async for message in requests:
        return message
    raise BadRequest("the call has no message")


async def _one(message: bytes) -> AsyncIterator[bytes]:
    yield message


def _read(kind: type[_Request], message: bytes) -> _Request:
    try:
        return kind.FromString(message)
    except DecodeError as error:
        raise BadRequest(f"the message is no {kind.DESCRIPTOR.name}") from error


def _allocation_of(message: bytes) -> str:
    try:
        return parse_allocation_id(message)
    except DecodeError as error:
        raise BadRequest("the message names no allocation") from error


def _find_token(context: _Context) -> Metadata | None:
    found = {
        key: value
        for key, value in context.invocation_metadata() or ()
        if key in _TOKENS and isinstance(value, str)
    }
    for name in _TOKENS:
        if name in found:
            return ((name, found[name]),)
    return None


def _end_to_end(context: _Context) -> tuple[tuple[str, str | bytes], ...]:
    return tuple(
        (key, value)
        for key, value in context.invocation_metadata() or ()
        if not key.startswith((":", "grpc-")) and key not in _of_one_hop
    )
