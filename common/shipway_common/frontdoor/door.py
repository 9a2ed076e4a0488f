"""Accepting connections, and handing each to who can answer it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from shipway_common.frontdoor.preface import Speech, recognize
from shipway_common.frontdoor.pump import Pump

log = logging.getLogger(__name__)

_BACKLOG = 1024
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 120_000),
)
"""Options by which the kernel finds out that the other machine is gone, when nothing is being said."""


class FrontDoor:
    """Accepts connections on one port; left, it has closed those to the gRPC server."""

    def __init__(self, grpc_socket: Path, *, patience_s: float = 10) -> None:
        """Lead to the gRPC server at *grpc_socket*.

        Args:
            patience_s: How long a caller may take until it is clear what he wants, in seconds.
        """
        self._grpc_socket, self._patience_s = grpc_socket, patience_s
        self._stack = AsyncExitStack()
        self._group = asyncio.TaskGroup()
        self._server: asyncio.Server | None = None
        self._make_http: Callable[[], asyncio.Protocol] | None = None
        self._open: set[_Caller | Pump] = set()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._group)
        self._stack.callback(self._close_all)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def listen(
        self,
        host: str,
        port: int,
        make_http: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> int:
        """Begin to accept; return the port, which is a free one if *port* is 0.

        Args:
            make_http: Makes the protocol that serves one HTTP/1 connection.
            tls: Certificate of the port; None for plain text.

        Raises:
            OSError: The address is in use, or not one of this machine.
        """
        self._make_http = make_http
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Caller(self),
            host,
            port,
            ssl=tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=self._patience_s if tls else None,
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    def stop_listening(self) -> None:
        """Accept nobody any more; open connections go on."""
        if self._server is not None:
            self._server.close()

    def _close_all(self) -> None:
        for connection in list(self._open):
            connection.abort()

    def entered(self, caller: _Caller) -> float:
        """Take note of a new *caller*; tell how long he may take, in seconds."""
        self._open.add(caller)
        return self._patience_s

    def left(self, connection: _Caller | Pump) -> None:
        """Take note that *connection* is gone, or somebody else's now."""
        self._open.discard(connection)

    def serve_http(self, transport: asyncio.Transport, first: bytes) -> None:
        """Let the HTTP server have a connection."""
        assert self._make_http is not None
        protocol = self._make_http()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(first)

    def serve_grpc(self, transport: asyncio.Transport, first: bytes) -> None:
        """Join a connection with one to the gRPC server."""
        transport.pause_reading()
        self._group.create_task(self._join(transport, first), name="gRPC connection")

    async def _join(self, transport: asyncio.Transport, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        outer, inner = Pump(on_lost=self.left), Pump(on_lost=self.left)
        try:
            await loop.create_unix_connection(lambda: inner, str(self._grpc_socket))
        except OSError as error:
            log.error("the gRPC server cannot be reached: %s", error)
            transport.abort()
            return
        if transport.is_closing():  # he has left meanwhile, and nobody would tell the pump
            inner.abort()
            return
        self._open.update((outer, inner))
        outer.join(inner)
        outer.connection_made(transport)
        transport.set_protocol(outer)
        inner.write(first)
        transport.resume_reading()


def _notice_silence(connection: socket.socket) -> None:
    """Let the kernel find out that the other machine is gone, when nothing is being said."""
    for level, option, value in KEEPALIVE:
        connection.setsockopt(level, option, value)


class _Caller(asyncio.Protocol):
    """A connection of which nothing is known yet."""

    def __init__(self, door: FrontDoor) -> None:
        self._door = door
        self._first = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        _notice_silence(transport.get_extra_info("socket"))
        limit_s = self._door.entered(self)
        self._timer = asyncio.get_running_loop().call_later(limit_s, self.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._first += data
        speech = recognize(self._first)
        if speech is None:
            return
        self._leave()
        serve = self._door.serve_http if speech is Speech.HTTP1 else self._door.serve_grpc
        serve(self._transport, bytes(self._first))

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def abort(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._door.left(self)
