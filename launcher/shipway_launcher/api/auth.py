"""Who may call: whoever has the token."""

from __future__ import annotations

import hmac

from aiohttp import web

from shipway_launcher.api.problems import Handler
from shipway_launcher.errors import NotAllowed

TOKEN = web.AppKey("token", str)

_OPEN = "/info/"


@web.middleware
async def require_token(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let through who sends the token; what is below /info/ is for everybody."""
    if not request.path.startswith(_OPEN):
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        wanted = request.app[TOKEN].encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("utf-8", "replace"), wanted
        ):
            raise NotAllowed(
                "the request needs the header `Authorization: Bearer TOKEN` with the token in the"
                " launcher's auth_file"
            )
    return await handler(request)
