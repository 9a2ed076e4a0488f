"""Errors as answers: problem documents (RFC 9457)."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from aiohttp import web

from shipway_launcher.errors import (
    Forbidden,
    LauncherError,
    NotAllowed,
    NotFound,
    TooLarge,
    TooMany,
    TooSlow,
    WrongRequest,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS: dict[type[LauncherError], int] = {
    WrongRequest: 400,
    NotAllowed: 401,
    Forbidden: 403,
    NotFound: 404,
    TooSlow: 408,
    TooLarge: 413,
    TooMany: 429,
}
"""Everything else is 500, the only other status of which the master shows the detail."""


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> web.Response:
    """Make a problem document.

    The master uses the detail as a format string, so it holds no percent sign.
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail.replace("%", " percent").encode("utf-8", "replace").decode(),
    }
    return web.Response(
        status=status,
        body=json.dumps(document).encode(),
        content_type="application/problem+json",
        headers=headers,
    )


@web.middleware
async def errors_as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with a problem document."""
    try:
        return await handler(request)
    except LauncherError as error:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
        if status == 500:
            log.warning("request failed: %s", error, extra=_about(request))
        return problem(status, str(error), headers=_headers(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return problem(
            error.status, f"{request.method} {request.path}: {error.reason}", headers=kept
        )
    except Exception as error:
        if isinstance(error, ConnectionError) and _has_hung_up(request):
            return problem(400, "the caller has hung up")  # and nobody reads this
        log.exception("request failed", extra=_about(request))
        return problem(500, "the launcher made a mistake; its log says which")


def _has_hung_up(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _about(request: web.Request) -> dict[str, str]:
    """Say which request it was; its path as it came has no line ends."""
    return {"request": f"{request.method} {request.raw_path[:300]}"}


def _headers(error: LauncherError) -> dict[str, str]:
    match error:
        case NotAllowed():
            return {"WWW-Authenticate": "Bearer"}
        case TooMany():
            return {"Retry-After": str(math.ceil(error.retry_after_s))}
        case _:
            return {}
