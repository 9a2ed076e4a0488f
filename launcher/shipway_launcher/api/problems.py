"""Errors as answers: problem documents (RFC 9457)."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from shipway_launcher.errors import LauncherError, NotAllowed, NotFound, TooLarge, WrongRequest

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS: dict[type[LauncherError], int] = {
    WrongRequest: 400,
    NotAllowed: 401,
    NotFound: 404,
    TooLarge: 413,
}
"""Everything else is 500, the only other status of which the master shows the detail."""


def problem(status: int, detail: str) -> web.Response:
    """Make a problem document.

    The master uses the detail as a format string, so it holds no percent sign.
    """
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail.replace("%", " percent").encode("utf-8", "replace").decode(),
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
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
            log.warning("request failed: %s", error, extra={"path": request.path})
        return problem(status, str(error))
    except web.HTTPRequestEntityTooLarge:
        limit = request.app[BODY_LIMIT_MIB]
        return problem(
            413, f"the body is larger than {limit} MiB (limits.body_mib of the launcher)"
        )
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem(error.status, f"{request.method} {request.path}: {error.reason}")
    except Exception:
        log.exception("request failed", extra={"path": request.path})
        return problem(500, "the launcher made a mistake; its log says which")


BODY_LIMIT_MIB = web.AppKey("body_limit_mib", int)
