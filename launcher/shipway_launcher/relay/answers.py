"""The JSON that jobs get from the relay itself: the master's own forms."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import grpc
from aiohttp import web

from shipway_launcher.relay.errors import (
    BadRequest,
    MasterRefused,
    MasterUnreachable,
    NotYours,
    PeerLost,
    RelayError,
    SpoolFailed,
    StreamRefused,
    Superseded,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_reasons: dict[grpc.StatusCode, tuple[str, int]] = {
    grpc.StatusCode.CANCELLED: ("Canceled", 408),
    grpc.StatusCode.UNKNOWN: ("Internal", 500),
    grpc.StatusCode.INVALID_ARGUMENT: ("InvalidArgument", 400),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("DeadlineExceeded", 504),
    grpc.StatusCode.NOT_FOUND: ("NotFound", 404),
    grpc.StatusCode.ALREADY_EXISTS: ("AlreadyExists", 409),
    grpc.StatusCode.PERMISSION_DENIED: ("PermissionDenied", 403),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("ResourceExhausted", 429),
    grpc.StatusCode.FAILED_PRECONDITION: ("FailedPrecondition", 400),
    grpc.StatusCode.ABORTED: ("Aborted", 409),
    grpc.StatusCode.OUT_OF_RANGE: ("OutOfRange", 400),
    grpc.StatusCode.UNIMPLEMENTED: ("Unimplemented", 501),
    grpc.StatusCode.INTERNAL: ("Internal", 500),
    grpc.StatusCode.UNAVAILABLE: ("Unavailable", 503),
    grpc.StatusCode.DATA_LOSS: ("DataLoss", 500),
    grpc.StatusCode.UNAUTHENTICATED: ("Unauthenticated", 401),
}


def error_answer(code: grpc.StatusCode, text: str) -> web.Response:
    """Answer as the master does when a call ends with *code*."""
    reason, status = _reasons[code]
    number = code.value[0]
    body = {"error": {"code": number, "reason": reason, "error": text}}
    return web.json_response(body, status=status)


@web.middleware
async def errors_as_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into the master's kind of answers; a caller who has left gets none."""
    try:
        return await handler(request)
    except RelayError as error:
        return error_answer(code_of(error), text_of(error))
    except web.HTTPRequestEntityTooLarge as error:
        return error_answer(grpc.StatusCode.RESOURCE_EXHAUSTED, error.text or str(error))
    except (web.HTTPException, ConnectionError):
        raise
    except Exception:
        log.exception("a call failed", extra={"method": request.method, "path": request.path})
        return error_answer(grpc.StatusCode.INTERNAL, "the relay failed; its log says why")


def code_of(error: RelayError) -> grpc.StatusCode:
    """Return what a call ends with that met *error*."""
    match error:
        case BadRequest():
            return grpc.StatusCode.INVALID_ARGUMENT
        case StreamRefused():
            return grpc.StatusCode.UNAUTHENTICATED
        case NotYours():
            return grpc.StatusCode.PERMISSION_DENIED
        case PeerLost() | Superseded():
            return grpc.StatusCode.ABORTED
        case SpoolFailed() | MasterUnreachable():
            return grpc.StatusCode.UNAVAILABLE
        case MasterRefused() if error.code in _reasons:
            return error.code
        case _:
            return grpc.StatusCode.INTERNAL


def text_of(error: RelayError) -> str:
    """Return the words for whoever called."""
    return error.message if isinstance(error, MasterRefused) else str(error)
