"""Calls to the master over gRPC, as bytes: the relay makes the messages when they come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, cast

import grpc
import grpc.aio

from shipway_launcher.relay.address import MasterAddress, MasterUrl
from shipway_launcher.relay.errors import MasterRefused, MasterUnreachable
from shipway_launcher.relay.settings import MasterTlsSettings
from shipway_launcher.relay.trust import MasterTrust, Trust

SERVICE = "determined.api.v1.Determined"

Metadata = tuple[tuple[str, str], ...]
"""Who a call is made for: the job's own token, under the name that the master reads."""

_later = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,  # by the master: we await no call that we cancelled
        grpc.StatusCode.ABORTED,
    }
)

_options: Sequence[tuple[str, int | str]] = (
    ("grpc.max_receive_message_length", 96 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # An all-gather may wait for hours without a byte. Servers drop clients that ping more often
    # than every five minutes.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)


def method_path(rpc: str) -> str:
    """Return the name of an RPC of the API as it goes over the wire."""
    return f"/{SERVICE}/{rpc}"


class MasterRpc:
    """The gRPC face of the master, wherever it is now; to be entered."""

    def __init__(self, address: MasterAddress, tls: MasterTlsSettings) -> None:
        self._address, self._certificate_name = address, tls.certificate_name
        self._trust = MasterTrust(tls.certificate_file)
        self._channel: grpc.aio.Channel | None = None
        self._channel_to: tuple[MasterUrl, Trust | None] | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    @property
    def is_connected(self) -> bool:
        """Whether a call may be under way."""
        return (
            self._channel is not None
            and self._channel.get_state() is grpc.ChannelConnectivity.READY
        )

    async def is_there(self, *, limit_s: float) -> bool:
        """Find out whether anything listens where the master is said to be."""
        url = self._address.current
        if url is None:
            return False
        try:
            async with asyncio.timeout(limit_s):
                _, writer = await asyncio.open_connection(url.host, url.port)
        except OSError:
            return False
        writer.close()
        return True

    async def call(
        self, rpc: str, request: bytes, metadata: Metadata, *, limit_s: float | None
    ) -> bytes:
        """Call *rpc* of the API and return the answer, waiting for the master if it is away.

        Args:
            rpc: Name in the service, such as PostTaskLogs.
            request: The request message, serialised.
            metadata: The caller's token.
            limit_s: How long to wait in all; None for calls that block until others came.

        Raises:
            MasterUnreachable: No answer in time, or one that asks to come later.
            MasterRefused: The answer is no.
        """
        channel = await self.channel()
        invoke = cast(
            "Callable[..., Awaitable[bytes]]",
            channel.unary_unary(  # pyright: ignore[reportUnknownMemberType]
                method_path(rpc), request_serializer=None, response_deserializer=None
            ),
        )
        try:
            return await invoke(request, timeout=limit_s, metadata=metadata, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise _explain(error) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # The call was cancelled, not we: its channel was closed, for the master has moved.
            raise MasterUnreachable("the master has another address now") from error

    async def ask(
        self, rpc: str, request: bytes, metadata: Metadata, *, limit_s: float
    ) -> AsyncIterator[bytes]:
        """Call *rpc*, which answers with many messages; else like `call`."""
        channel = await self.channel()
        invoke = cast(
            "Callable[..., AsyncIterator[bytes]]",
            channel.unary_stream(  # pyright: ignore[reportUnknownMemberType]
                method_path(rpc), request_serializer=None, response_deserializer=None
            ),
        )
        try:
            async for answer in invoke(
                request, timeout=limit_s, metadata=metadata, wait_for_ready=True
            ):
                yield answer
        except grpc.aio.AioRpcError as error:
            raise _explain(error) from error

    async def channel(self) -> grpc.aio.Channel:
        """Return the channel to where the master is now, waiting for its address.

        Raises:
            MasterUnreachable: It cannot be verified: there are no certificates.
        """
        url = await self._address.wait()
        try:
            trust = await self._trust.current() if url.is_tls else None
        except OSError as error:
            raise MasterUnreachable(str(error)) from error
        async with self._connecting:
            if self._channel is None or self._channel_to != (url, trust):
                before = self._channel
                self._channel, self._channel_to = self._open(url, trust), (url, trust)
                if before is not None:
                    await before.close()
            return self._channel

    def _open(self, url: MasterUrl, trust: Trust | None) -> grpc.aio.Channel:
        if trust is None:
            return grpc.aio.insecure_channel(url.authority, options=_options)
        name = self._certificate_name
        override = () if name is None else (("grpc.ssl_target_name_override", name),)
        credentials = grpc.ssl_channel_credentials(root_certificates=trust.roots)
        return grpc.aio.secure_channel(url.authority, credentials, options=(*_options, *override))


def _explain(error: grpc.aio.AioRpcError) -> MasterUnreachable | MasterRefused:
    text = error.details() or "no reason given"
    if error.code() in _later:
        return MasterUnreachable(f"{error.code().name}: {text}")
    return MasterRefused(error.code(), text)
