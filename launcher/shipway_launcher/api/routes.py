"""The routes of the launcher's API."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from aiohttp import web

from shipway_launcher.api.auth import TOKEN, require_token
from shipway_launcher.api.problems import BODY_LIMIT_MIB, errors_as_problems, problem
from shipway_launcher.api.ranges import Unsatisfiable, find_span, parse_range
from shipway_launcher.api.unbuilt import UNBUILT, not_built
from shipway_launcher.api.wire import dispatch_info
from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.record import Dispatch
from shipway_launcher.errors import TooLarge, WrongRequest
from shipway_launcher.logs import read_span
from shipway_launcher.service import Launcher

_API_VERSION = "3.3.7"
"""The release of the original launcher whose API this is; the master wants at least 3.3.1."""


def make_app(launcher: Launcher, *, token: str, body_mib: int) -> web.Application:
    """Make the web application.

    Args:
        launcher: Does what is asked for.
        token: What callers must send.
        body_mib: Largest body that is read.
    """
    app = web.Application(
        client_max_size=body_mib << 20, middlewares=[errors_as_problems, require_token]
    )
    app[TOKEN], app[BODY_LIMIT_MIB] = token, body_mib
    face = _Face(launcher)
    environment = "{owner}/environments/{environment}"
    routes = [
        web.get("/info/version/server", face.api_version),
        web.get("/info/version/api", face.api_version),
        web.get("/info/version/revision", face.revision),
        web.put("/launch", face.launch),
        web.get(f"/monitoring/{environment}/status", face.status),
        web.get(f"/monitoring/{environment}", face.manifest),
        web.get(f"/monitoring/{environment}/logs/{{log}}", face.log),
        web.delete(f"/monitoring/{environment}/management", face.delete),
        web.delete(f"/running/{environment}", face.terminate),
        web.get("/running", face.running),
        web.get("/terminated", face.terminated),
        *(web.route(method, path, not_built) for method, path in UNBUILT),
    ]
    app.add_routes(routes)
    return app


class _Face:
    """The handlers."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    async def api_version(self, request: web.Request) -> web.Response:
        return web.Response(text=_API_VERSION)

    async def revision(self, request: web.Request) -> web.Response:
        return web.Response(text=f"shipway {version('shipway')}")

    async def launch(self, request: web.Request) -> web.Response:
        body = await _read_body(request)
        found = await self._launcher.launch(
            body,
            user=request.query.get("impersonate", ""),
            dispatch_id=request.query.get("dispatchId"),
        )
        return web.json_response(dispatch_info(found), status=201)

    async def status(self, request: web.Request) -> web.Response:
        found = await self._launcher.status(
            *_environment(request), refresh=_flag(request, "refresh")
        )
        return web.json_response(dispatch_info(found, event_limit=_number(request, "eventLimit")))

    async def manifest(self, request: web.Request) -> web.Response:
        body = await self._launcher.manifest(*_environment(request))
        return web.Response(body=body, content_type="application/json")

    async def log(self, request: web.Request) -> web.StreamResponse:
        log = await self._launcher.log(*_environment(request), request.match_info["log"])
        wanted = parse_range(request.headers.get("Range"))
        try:
            span = await find_span(log, wanted)
        except Unsatisfiable:
            return problem(416, f"the log has {log.size} bytes and no such part")
        is_whole = span.start == 0 and span.end == log.size
        response = web.StreamResponse(status=200 if is_whole else 206)
        response.content_type = "application/octet-stream"
        response.content_length = span.end - span.start
        if not is_whole:
            response.headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{log.size}"
        await response.prepare(request)
        async for block in read_span(log, span):
            await response.write(block)
        await response.write_eof()
        return response

    async def terminate(self, request: web.Request) -> web.Response:
        found = await self._launcher.terminate(*_environment(request))
        return web.json_response(dispatch_info(found), status=202)

    async def delete(self, request: web.Request) -> web.Response:
        await self._launcher.delete(*_environment(request))
        return web.Response(status=204)

    async def running(self, request: web.Request) -> web.Response:
        return _list(request, self._launcher.running())

    async def terminated(self, request: web.Request) -> web.Response:
        return _list(request, self._launcher.terminated())


async def _read_body(request: web.Request) -> bytes:
    limit = request.app[BODY_LIMIT_MIB]
    if (request.content_length or 0) > limit << 20:
        raise TooLarge(
            f"the body has {request.content_length} bytes; the launcher takes {limit} MiB"
            " (limits.body_mib of its settings)"
        )
    return await request.read()


def _environment(request: web.Request) -> tuple[str, str]:
    return request.match_info["owner"], request.match_info["environment"]


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise WrongRequest(f"{name}: {text[:40]!r} is neither true nor false")
    return text == "true"


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise WrongRequest(f"{name}: {text[:40]!r} is no number")
    return int(text)


def _list(request: web.Request, found: Sequence[Dispatch | Query]) -> web.Response:
    states = set(request.query.getall("state", []))
    event_limit = _number(request, "eventLimit")
    infos = [dispatch_info(one, event_limit=event_limit) for one in found]
    chosen = [info for info in infos if not states or info["state"] in states]
    if _flag(request, "reverse"):
        chosen.reverse()
    offset, limit = _number(request, "offset") or 0, _number(request, "limit")
    end = None if limit is None else offset + limit
    return web.json_response({"data": chosen[offset:end]})
