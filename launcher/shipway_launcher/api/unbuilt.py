"""Routes of the API that no master calls and that this release does not have."""

from __future__ import annotations

from aiohttp import web

from shipway_launcher.api.problems import problem

_ENVIRONMENT = "{owner}/environments/{environment}"

UNBUILT = (
    ("GET", "/info/api"),
    ("GET", "/admin/log-level"),
    ("PUT", "/admin/log-level"),
    ("GET", "/admin/loggers"),
    ("PUT", "/admin/loggers"),
    ("GET", "/admin/loggers/{logger}"),
    ("PUT", "/admin/loggers/{logger}"),
    ("PUT", "/launch/async"),
    ("PUT", "/launch/credentials/{owner}/{name}"),
    ("HEAD", "/launch/credentials/{owner}/{name}"),
    ("DELETE", "/launch/credentials/{owner}/{name}"),
    ("GET", f"/monitoring/{_ENVIRONMENT}/management"),
    ("GET", f"/monitoring/{_ENVIRONMENT}/logs"),
    ("DELETE", f"/monitoring/{_ENVIRONMENT}/logs"),
    ("DELETE", f"/monitoring/{_ENVIRONMENT}/logs/{{log}}"),
    ("GET", "/running/{owner}"),
    ("DELETE", "/running/{owner}"),
    ("GET", f"/running/{_ENVIRONMENT}"),
    ("DELETE", f"/running/{_ENVIRONMENT}/async"),
    ("GET", f"/running/{_ENVIRONMENT}/uis"),
    ("GET", "/running/{owner}/acls"),
    ("PUT", "/running/{owner}/acls"),
    ("GET", "/terminated/{owner}"),
    ("DELETE", "/terminated/{owner}"),
    ("GET", f"/terminated/{_ENVIRONMENT}"),
    ("DELETE", f"/terminated/{_ENVIRONMENT}"),
    ("GET", "/terminated/{owner}/acls"),
    ("PUT", "/terminated/{owner}/acls"),
)


async def not_built(request: web.Request) -> web.Response:
    """Say that this release does not have the operation."""
    return problem(501, f"this release does not have {request.method} {request.path}")
