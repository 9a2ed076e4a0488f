"""Task logs by gRPC. To be imported when they are first wanted: gRPC costs 15 MB."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
import grpc.aio

from shipway_agent.logs.place import GrpcTarget
from shipway_agent.taskapi import CallFailed, CallRefused

_METHOD = "/determined.api.v1.Determined/PostTaskLogs"
_CALL_S = 60.0

_OPTIONS = (
    # Not more often than servers of Go allow; what counts is that with it data which nobody
    # confirms closes the connection, after the time-out.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),  # our own delays pace the tries, not two in a row
    ("grpc.enable_retries", 0),  # we repeat, after a look whether that is needed
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
)

_refusals: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}
_INTERNAL = frozenset(
    {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
)


class GrpcPoster:
    """One connection, shared by all tasks."""

    def __init__(self, target: GrpcTarget) -> None:
        self._channel = _open(target)
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            _METHOD
        )
        self._address = target.address

    async def post(self, request: bytes, token: str) -> None:
        """Post a serialized `PostTaskLogsRequest`.

        Raises:
            CallFailed: It may work later.
            CallRefused: It will not; the status is what REST would have answered.
        """
        metadata = (("x-allocation-token", f"Bearer {token}"),)
        try:
            await self._call(request, metadata=metadata, timeout=_CALL_S)
        except grpc.aio.AioRpcError as error:
            raise self._explain(error) from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._channel.close()

    def _explain(self, error: grpc.aio.AioRpcError) -> CallFailed | CallRefused:
        code, details = error.code(), (error.details() or "")[:500]
        message = f"PostTaskLogs at {self._address} failed: {code.name}: {details}"
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
            return CallRefused(message, status=413)
        if code in _refusals:
            return CallRefused(message, status=_refusals[code])
        never_left = code is grpc.StatusCode.UNAVAILABLE and "failed to connect" in details
        return CallFailed(message, may_have_worked=not never_left, is_internal=code in _INTERNAL)


def _open(target: GrpcTarget) -> grpc.aio.Channel:
    if target.roots is None:
        return grpc.aio.insecure_channel(target.address, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        target.roots, target.client_key, target.client_certificate
    )
    name = target.server_name
    options = (*_OPTIONS, ("grpc.ssl_target_name_override", name)) if name else _OPTIONS
    return grpc.aio.secure_channel(target.address, credentials, options=options)
