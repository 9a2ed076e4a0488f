"""The HTTP application: the REST face, the routes beside it, and what all answers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from aiohttp import web

from shipway_master.auth import Authenticator, find_token
from shipway_master.errors import ANSWERS, MasterError, Unauthenticated
from shipway_master.gateway.encode import dump
from shipway_master.gateway.rest import RestFace, lower_headers
from shipway_master.rpc import Registry

_ANYTHING: Final = "{path:(?s:.*)}"
"""Even an encoded line end, or aiohttp would answer that path by itself."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_SECURITY_HEADERS: Final = {
    "X-Xss-Protection": "1; mode=block",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}


def build_site(
    registry: Registry, authenticator: Authenticator, routes: Iterable[web.AbstractRouteDef]
) -> web.Application:
    """Build the application.

    Args:
        routes: What lies outside `/api/v1`; each handler checks by itself who asks.
    """
    rest = RestFace(registry)

    async def not_found(request: web.Request) -> web.Response:
        await require_user(request, authenticator)
        return message_response(404, f"api not found: {request.method} {request.path}")

    site = web.Application(middlewares=[_told_as_message])
    site.on_response_prepare.append(_add_security_headers)
    site.router.add_route("*", "/api/v1", rest.handle)
    site.router.add_route("*", f"/api/v1/{_ANYTHING}", rest.handle)
    site.router.add_route("POST", "/task-logs", rest.take_logs)
    site.add_routes(routes)
    site.router.add_route("*", f"/{_ANYTHING}", not_found)
    return site


def message_response(status: int, text: str) -> web.Response:
    """Build an answer of the form that routes outside `/api/v1` have for errors."""
    return web.Response(
        status=status, body=dump({"message": text}), content_type="application/json"
    )


async def require_user(request: web.Request, authenticator: Authenticator) -> None:
    """Let nobody but a user (no task) ask.

    Raises:
        Unauthenticated: There is no valid token.
        PermissionDenied: The user has been deactivated.
    """
    headers = lower_headers(request)
    carriers = {name: headers[name] for name in ("authorization",) if name in headers}
    principal = await authenticator.principal(
        find_token(carriers, cookie=request.cookies.get("auth"))
    )
    if principal.allocation_id is not None:
        raise Unauthenticated("Unauthorized")


@web.middleware
async def _told_as_message(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Unauthenticated:
        return message_response(401, "Unauthorized")
    except MasterError as error:
        return message_response(ANSWERS[error.code].http_status, error.text)


async def _add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_SECURITY_HEADERS)
