"""RPCs over HTTP: one handler for everything below `/api/v1`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing

from aiohttp import web
from google.protobuf.message import Message

from shipway_master.errors import (
    ANSWERS,
    Internal,
    MasterError,
    ResourceExhausted,
    Unimplemented,
    error_body,
    stream_error_body,
)
from shipway_master.gateway.body import (
    ANONYMOUS_LIMIT_BYTES,
    BODY_LIMIT_BYTES,
    MESSAGE_LIMIT_BYTES,
    Bodies,
)
from shipway_master.gateway.compress import accepts_gzip, compressed
from shipway_master.gateway.decode import fill, fill_field, parse_json
from shipway_master.gateway.depth import require_shallow
from shipway_master.gateway.encode import dump, to_json
from shipway_master.gateway.query import bind_path, bind_query
from shipway_master.gateway.routes import Match, Routes
from shipway_master.gateway.stream import send_stream
from shipway_master.rpc import METHODS, Call, Registry

log = logging.getLogger(__name__)


class RestFace:
    """Answers HTTP requests below `/api/v1` from the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._routes = Routes(METHODS.values())
        self._bodies = Bodies()
        self._shared: tuple[Message, bytes, bytes | None] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; whatever happens, the answer has the API's form."""
        try:
            return await self._answer(request)
        except MasterError as error:
            return error_response(error)
        except Exception:
            log.exception("the REST face failed")
            return error_response(Internal("internal error; the log of the master says more"))

    async def take_logs(self, request: web.Request) -> web.Response:
        """Take the lines of a trial that runs elsewhere: a list, at a path outside of the API.

        Raises:
            MasterError: As the call of the API for lines does.
        """
        method = METHODS["PostTaskLogs"]
        call = await self._registry.authorize(
            method, metadata=lower_headers(request), cookie=request.cookies.get("auth")
        )
        message = method.request()
        async with self._bodies.reading(request, limit_bytes=BODY_LIMIT_BYTES) as body:
            fill_field(message, "logs", parse_json(body))
            await self._registry.unary(message, call)
        return web.json_response("")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        match = self._routes.find(request.method, path)
        if match is None:
            raise Unimplemented("Not Implemented")
        call = await self._registry.authorize(
            match.method,
            metadata=lower_headers(request),
            cookie=request.cookies.get("auth"),
        )
        async with AsyncExitStack() as held:  # what the call was made of, while it runs
            message = await self._build(request, match, query, call, held)
            if match.method.is_stream:
                return await self._stream(request, message, call)
            answer = await self._registry.unary(message, call)
        is_pretty = "pretty" in request.query
        if call.shares_answer and not is_pretty:
            body, packed = await self._write_shared(answer)
        else:
            body = to_json(answer, pretty=is_pretty)
            packed = await compressed(body) if accepts_gzip(request) else None
        return _response(request, body, packed, call)

    async def _write_shared(self, answer: Message) -> tuple[bytes, bytes | None]:
        """Write an answer that many callers get; the last one is remembered."""
        if self._shared is None or self._shared[0] is not answer:
            body = to_json(answer, pretty=False)
            self._shared = (answer, body, await compressed(body))
        return self._shared[1:]

    async def _stream(
        self, request: web.Request, message: Message, call: Call
    ) -> web.StreamResponse:
        try:
            items = await self._registry.stream(message, call)
        except MasterError as error:
            return _json(ANSWERS[error.code].http_status, stream_error_body(error))
        async with aclosing(items):
            return await send_stream(request, items)

    async def _build(
        self, request: web.Request, match: Match, query: str, call: Call, held: AsyncExitStack
    ) -> Message:
        method = match.method
        message = method.request()
        if method.body:
            is_known = call.known_principal is not None
            limit = BODY_LIMIT_BYTES if is_known else ANONYMOUS_LIMIT_BYTES
            body = self._bodies.reading(request, limit_bytes=limit)
            data = parse_json(await held.enter_async_context(body))
            if method.body == "*":
                fill(message, data)
            else:
                fill_field(message, method.body, data)
        for name, text in match.parameters.items():
            bind_path(message, name, text)
        if query and method.body != "*":
            taken = {*match.parameters, method.body} - {""}
            bind_query(message, query, taken=taken)
        if message.ByteSize() > MESSAGE_LIMIT_BYTES:
            raise ResourceExhausted(f"message too large: over {MESSAGE_LIMIT_BYTES} bytes")
        require_shallow(message)
        return message


def _response(request: web.Request, body: bytes, packed: bytes | None, call: Call) -> web.Response:
    headers = [("Set-Cookie", cookie) for cookie in call.set_cookies]
    if packed is not None and accepts_gzip(request):
        body = packed
        headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
    return web.Response(body=body, content_type="application/json", headers=headers or None)


def error_response(error: MasterError) -> web.Response:
    """Build the answer for a failed unary call."""
    return _json(ANSWERS[error.code].http_status, error_body(error))


def _json(status: int, data: Mapping[str, object]) -> web.Response:
    return web.Response(status=status, body=dump(data), content_type="application/json")


def lower_headers(request: web.BaseRequest) -> Mapping[str, str]:
    """Get the headers of *request* by lower-case name."""
    return {name.lower(): value for name, value in request.headers.items()}
