"""Both faces of the API on one port."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
from aiohttp import web
from google.protobuf.message import DecodeError, Message

from shipway_common.badhttp import server_log
from shipway_common.frontdoor import FrontDoor
from shipway_master.auth import OPEN_RPCS, Authenticator
from shipway_master.config import MasterConfig
from shipway_master.errors import (
    CannotStart,
    DeadlineExceeded,
    InvalidArgument,
    MasterError,
    ResourceExhausted,
)
from shipway_master.gateway.body import ANONYMOUS_LIMIT_BYTES, MESSAGE_LIMIT_BYTES
from shipway_master.gateway.depth import require_shallow
from shipway_master.gateway.site import build_site
from shipway_master.rpc import METHODS, Call, Method, Registry
from shipway_master.rpc.methods import SERVICE_NAME
from shipway_master.tls import make_tls_context

_GRACE_S = 3
"""How long running calls may go on when the master is told to stop, in seconds."""
_CALLS_AT_ONCE = 1 << 16
_UNKNOWN_AT_ONCE = 8
"""So many messages of callers who need not say who they are are received at a time."""
_UNKNOWN_WAIT_S = 10
"""How long one of these may take to come: the others wait for it."""

_Context = grpc.aio.ServicerContext[Any, Any]


@asynccontextmanager
async def serving(
    config: MasterConfig,
    registry: Registry,
    authenticator: Authenticator,
    routes: Iterable[web.AbstractRouteDef],
) -> AsyncGenerator[int]:
    """Serve the API; yields the port. Left, it takes no more calls and ends the running ones."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-master-")))
        socket = folder / "grpc"  # the folder is 0700: nobody else gets behind the front door
        door = await stack.enter_async_context(FrontDoor(socket))
        await stack.enter_async_context(_grpc_server(registry, socket))
        site = build_site(registry, authenticator, routes)
        runner = web.AppRunner(
            site,
            handler_cancellation=True,
            shutdown_timeout=_GRACE_S,
            access_log=None,
            logger=server_log,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        assert runner.server is not None
        tls = make_tls_context(config.security.tls)
        try:
            port = await door.listen(config.host, config.port, runner.server, tls=tls)
        except OSError as error:
            problem = f"host {config.host}, port {config.port}: {error.strerror or error}"
            raise CannotStart(f"it cannot listen on {problem}") from error
        stack.callback(registry.interrupt)
        stack.callback(door.stop_listening)
        yield port


@asynccontextmanager
async def _grpc_server(registry: Registry, socket: Path) -> AsyncGenerator[None]:
    server = grpc.aio.server(
        interceptors=(_Doorman(registry),),
        options=(
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            # By default some of a thousand calls that come at once are cancelled unseen.
            ("grpc.server.max_pending_requests", _CALLS_AT_ONCE),
            ("grpc.server.max_pending_requests_hard_limit", _CALLS_AT_ONCE),
        ),
    )
    gate = _Gate()
    handlers = {
        name: _open_handler(method, registry, gate)
        if name in OPEN_RPCS
        else _handler(method, registry)
        for name, method in METHODS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, handlers),))
    try:
        server.add_insecure_port(f"unix:{socket}")
    except RuntimeError as error:
        problem = f"gRPC cannot listen on {socket}, whose path may be too long"
        raise CannotStart(f"{problem}: set TMPDIR to another folder") from error
    await server.start()
    try:
        yield
    finally:
        await server.stop(_GRACE_S)


class _Doorman(grpc.aio.ServerInterceptor):
    """Turns away who may not call before his message is read, which may be a large one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        if name in METHODS:
            try:
                await _authorize(
                    METHODS[name], handler_call_details.invocation_metadata, self._registry
                )
            except MasterError as error:
                return _refusing(error)
        return await continuation(handler_call_details)


def _refusing(error: MasterError) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(_: Any, context: _Context) -> AsyncGenerator[Message]:
        await context.abort(error.code, error.text)
        yield  # never: it makes this a stream, of which nothing needs to be read

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _authorize(
    method: Method, metadata: Iterable[tuple[str, str | bytes]] | None, registry: Registry
) -> Call:
    texts = {key: value for key, value in metadata or () if isinstance(value, str)}
    return await registry.authorize(method, metadata=texts, cookie=None)


class _Gate:
    """Receives the messages of callers who need not say who they are, a few at a time.

    How large a message may be is a setting of the whole server, not of a method, and it hands one
    out only when all of it is there. So a large one of theirs is received before it is refused, and
    without this they could fill the memory. What nobody asks for is not received.
    """

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_UNKNOWN_AT_ONCE)

    async def read(self, method: Method, context: _Context) -> bytes:
        """Read a message.

        Raises:
            DeadlineExceeded: It does not come.
            ResourceExhausted: It is larger than it could be.
            InvalidArgument: There is none.
        """
        async with self._turns:
            try:
                async with asyncio.timeout(_UNKNOWN_WAIT_S):
                    data = await context.read()
            except TimeoutError:
                raise DeadlineExceeded(f"no message came in {_UNKNOWN_WAIT_S} s") from None
        if not isinstance(data, bytes):
            raise InvalidArgument("the call has no message")
        if len(data) > ANONYMOUS_LIMIT_BYTES:
            del data  # the traceback of the error would keep it
            limit = f"{ANONYMOUS_LIMIT_BYTES} bytes"
            raise ResourceExhausted(f"message too large: {method.name} takes {limit} at most")
        return data


def _open_handler(
    method: Method, registry: Registry, gate: _Gate
) -> grpc.RpcMethodHandler[Any, Any]:
    async def answer(_: Any, context: _Context) -> AsyncGenerator[Message]:
        try:
            call = await _authorize(method, context.invocation_metadata(), registry)
            data = await gate.read(method, context)
            yield await registry.unary(_read(data, method), call)
        except MasterError as error:
            await context.abort(error.code, error.text)

    # To the caller it is the unary call that it should be; here it is a stream, so that the message
    # is read by us.
    return grpc.stream_stream_rpc_method_handler(
        answer, response_serializer=method.response.SerializeToString
    )


def _handler(method: Method, registry: Registry) -> grpc.RpcMethodHandler[Any, Any]:
    async def authorize(context: _Context) -> Call:
        return await _authorize(method, context.invocation_metadata(), registry)

    async def unary(data: bytes, context: _Context) -> Message:
        try:
            call = await authorize(context)
            return await registry.unary(_read(data, method), call)
        except MasterError as error:
            return await context.abort(error.code, error.text)

    async def stream(data: bytes, context: _Context) -> AsyncGenerator[Message]:
        try:
            call = await authorize(context)
            items = await registry.stream(_read(data, method), call)
            async for item in items:
                yield item
        except MasterError as error:
            await context.abort(error.code, error.text)

    if method.is_stream:
        return grpc.unary_stream_rpc_method_handler(
            stream, response_serializer=method.response.SerializeToString
        )
    return grpc.unary_unary_rpc_method_handler(
        unary, response_serializer=method.response.SerializeToString
    )


def _read(data: bytes, method: Method) -> Message:
    """Read a request. gRPC itself would answer Internal to bytes that are none, with a traceback."""
    try:
        message = method.request.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(f"the message is no {method.request.DESCRIPTOR.name}") from error
    require_shallow(message)
    return message
