"""The routes of the page, and what it asks beyond the API."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Final

from aiohttp import web

from shipway_master.auth import Authenticator
from shipway_master.gateway.encode import dump
from shipway_master.gateway.site import message_response, require_user

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS: Final = {
    # Nothing from elsewhere, and nothing that stands in markup.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # ask whether it has changed
}

Problems = Mapping[str, Mapping[int, str]]
"""By agent and slot: why a slot is not fit for use."""


class PageRoutes:
    """Serves the page; its files are open to all, what it shows is not."""

    def __init__(
        self, authenticator: Authenticator, *, list_problems: Callable[[], Problems]
    ) -> None:
        self._authenticator = authenticator
        self._list_problems = list_problems
        folder = resources.files("shipway_master.page") / "static"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir()}

    def routes(self) -> list[web.RouteDef]:
        """List the routes for the site."""
        return [
            web.get("/", self._index),
            web.get("/det", self._to_index),
            web.get(r"/det/experiments/{_:\d+}/{kind:trials}/{id:\d+}{rest:(/.*)?}", self._to_view),
            web.get(r"/det/{kind:experiments|trials}/{id:\d+}{rest:(/.*)?}", self._to_view),
            web.get("/det/{path:.*}", self._to_index),
            web.get("/page/slot-problems", self._problems),
            web.get("/page/{name}", self._file),
        ]

    async def _index(self, request: web.Request) -> web.Response:
        return self._answer(request, "index.html")

    async def _to_index(self, _: web.Request) -> web.Response:
        """Lead links of the original's pages, which clients print, to this one."""
        raise web.HTTPFound("/")

    async def _to_view(self, request: web.Request) -> web.Response:
        """Lead a link to one of the original's pages to the view of the same thing."""
        raise web.HTTPFound(f"/#/{request.match_info['kind']}/{request.match_info['id']}")

    async def _file(self, request: web.Request) -> web.Response:
        return self._answer(request, request.match_info["name"])

    def _answer(self, request: web.Request, name: str) -> web.Response:
        body = self._files.get(name)
        if body is None:
            return message_response(404, f"the page has no file {name!r}")
        tag = hashlib.sha256(body).hexdigest()[:16]
        headers = {**_HEADERS, "ETag": f'"{tag}"'}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        kind = _TYPES[name.rpartition(".")[2]]
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    async def _problems(self, request: web.Request) -> web.Response:
        await require_user(request, self._authenticator)
        return web.Response(body=dump(self._list_problems()), content_type="application/json")
