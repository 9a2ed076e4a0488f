"""`/admin/`: how much the launcher says of itself; for administrators."""

from __future__ import annotations

from typing import Any, cast

from aiohttp import web

from shipway_launcher.api.access import require_admin
from shipway_launcher.api.answers import answer
from shipway_launcher.api.bodies import read_data
from shipway_launcher.errors import WrongRequest
from shipway_launcher.loglevels import ROOT, known_loggers, level_of, set_levels


async def get_level(request: web.Request) -> web.Response:
    require_admin(is_change=False)
    return await answer(request, level_of(ROOT))


async def put_level(request: web.Request) -> web.Response:
    require_admin(is_change=True)
    set_levels({ROOT: await read_data(request)})
    return web.Response(status=204)


async def get_loggers(request: web.Request) -> web.Response:
    require_admin(is_change=False)
    return await answer(request, known_loggers())


async def put_loggers(request: web.Request) -> web.Response:
    require_admin(is_change=True)
    levels = await read_data(request)
    if not isinstance(levels, dict):
        raise WrongRequest("the body must map names of loggers to levels")
    set_levels(cast("dict[str, Any]", levels))
    return web.Response(status=204)


async def get_logger(request: web.Request) -> web.Response:
    require_admin(is_change=False)
    return await answer(request, level_of(request.match_info["logger"]))


async def put_logger(request: web.Request) -> web.Response:
    require_admin(is_change=True)
    set_levels({request.match_info["logger"]: await read_data(request)})
    return web.Response(status=204)


ROUTES = [
    web.get("/admin/log-level", get_level),
    web.put("/admin/log-level", put_level),
    web.get("/admin/loggers", get_loggers),
    web.put("/admin/loggers", put_loggers),
    web.get("/admin/loggers/{logger}", get_logger),
    web.put("/admin/loggers/{logger}", put_logger),
]
