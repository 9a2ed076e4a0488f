"""`/monitoring/`: one environment, whether it has ended or not."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from shipway_launcher.acls import Level
from shipway_launcher.api.access import Access, current_caller, stage_of
from shipway_launcher.api.answers import answer
from shipway_launcher.api.logpart import send_log
from shipway_launcher.api.parameters import flag, number, wanted_age_s
from shipway_launcher.api.wire import (
    DISPATCHER,
    dispatch_info,
    dispatch_metadata,
    log_source,
    query_manifest,
)
from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.record import Dispatch
from shipway_launcher.service import Launcher


class Monitoring:
    """The handlers."""

    def __init__(self, launcher: Launcher, access: Access) -> None:
        """Use these."""
        self._launcher, self._access = launcher, access

    def routes(self) -> list[web.RouteDef]:
        """Return which path has which handler."""
        one = "/monitoring/{owner}/environments/{environment}"
        log = f"{one}/logs/{{log:[^/]+}}"  # a log is named after its payload, which may have braces
        return [
            web.get(one, self.manifest),
            web.get(f"{one}/status", self.status),
            web.get(f"{one}/management", self.management),
            web.delete(f"{one}/management", self.delete),
            web.get(f"{one}/logs", self.logs),
            web.delete(f"{one}/logs", self.erase_logs),
            web.get(log, self.log),
            web.delete(log, self.erase_log),
        ]

    async def manifest(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.READ)
        return await answer(request, await full_manifest(self._launcher, found))

    async def status(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.READ)
        limit, refresh = number(request, "eventLimit"), flag(request, "refresh")
        found = await self._launcher.status(found, refresh=refresh, max_age_s=wanted_age_s(request))
        return await answer(request, dispatch_info(found, event_limit=limit))

    async def management(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.READ)
        reason = await self._launcher.why_not_managed(found.owner)
        if not self._access.may(current_caller(), found.owner, Level.WRITE, stage_of(found)):
            reason = f"{current_caller().user} may only read the environments of {found.owner}"
        return await answer(
            request,
            {
                "info": dispatch_info(found),
                "dispatcher": DISPATCHER,
                "reason": reason,
                "canManage": not reason,
            },
        )

    async def delete(self, request: web.Request) -> web.Response:
        await self._launcher.delete(self._access.find(request, Level.WRITE))
        return web.Response(status=204)

    async def logs(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.READ)
        sources = await self._launcher.logs(found)
        return await answer(request, {found.payload: [log_source(one) for one in sources]})

    async def erase_logs(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.WRITE)
        sources = [] if isinstance(found, Query) else await self._launcher.logs(found)
        await self._launcher.erase_logs(found, [one.name for one in sources])
        return web.Response(status=204)

    async def log(self, request: web.Request) -> web.StreamResponse:
        found = self._access.find(request, Level.READ)
        return await send_log(request, await self._launcher.log(found, request.match_info["log"]))

    async def erase_log(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.WRITE)
        await self._launcher.erase_logs(found, [request.match_info["log"]])
        return web.Response(status=204)


async def full_manifest(launcher: Launcher, found: Dispatch | Query) -> dict[str, Any]:
    """Return what was launched and what the launcher has to add."""
    if isinstance(found, Query):
        return {**query_manifest(found), "dispatchMetadata": dispatch_metadata(found, [])}
    data: dict[str, Any] = json.loads(await launcher.manifest(found))
    return {
        **data,
        "dispatchMetadata": dispatch_metadata(found, await launcher.interfaces(found)),
    }
