"""`/info/`: what this is; for everybody."""

from __future__ import annotations

import asyncio
from importlib.metadata import version
from importlib.resources import files

from aiohttp import web

_API_VERSION = "3.3.7"
"""The release of the original launcher whose API this is; the master wants at least 3.3.1."""


async def api_version(request: web.Request) -> web.Response:
    """Answer bare text: the master reads no JSON here, and no line end."""
    return web.Response(text=_API_VERSION)


async def revision(request: web.Request) -> web.Response:
    """Say what really runs."""
    return web.Response(text=f"shipway {version('shipway')}")


async def description(request: web.Request) -> web.Response:
    """Answer the API's description."""
    path = files("shipway_launcher.api") / "openapi.yaml"
    body = await asyncio.to_thread(path.read_bytes)
    return web.Response(body=body, content_type="application/yaml", charset="utf-8")


ROUTES = [
    web.get("/info/version/server", api_version),
    web.get("/info/version/api", api_version),
    web.get("/info/version/revision", revision),
    web.get("/info/api", description),
]
