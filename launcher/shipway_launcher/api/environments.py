"""`/running` and `/terminated`: environments of everybody and of one owner."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote

from aiohttp import web

from shipway_launcher.acls import AclBook, Level, Stage, render_acls
from shipway_launcher.api.access import Access, current_caller, stage_of
from shipway_launcher.api.answers import answer
from shipway_launcher.api.bodies import read_data
from shipway_launcher.api.monitoring import full_manifest
from shipway_launcher.api.parameters import flag, number, states
from shipway_launcher.api.wire import dispatch_info, interface_info, parse_acls, state_of
from shipway_launcher.carriers.shelf import Query
from shipway_launcher.dispatches.record import Dispatch
from shipway_launcher.errors import NotFound
from shipway_launcher.service import Launcher
from shipway_launcher.users import check_user_name

_MANY = 1000


class Environments:
    """The handlers."""

    def __init__(self, launcher: Launcher, access: Access, acls: AclBook) -> None:
        """Use these."""
        self._launcher, self._access, self._acls = launcher, access, acls
        self._changing_acls = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """Return which path has which handler."""
        running = "/running/{owner}/environments/{environment}"
        terminated = "/terminated/{owner}/environments/{environment}"
        return [
            web.get("/running", self.list_running),
            web.get("/running/{owner}", self.list_running),
            web.delete("/running/{owner}", self.terminate_all),
            web.get("/running/{owner}/acls", self.get_acls),
            web.put("/running/{owner}/acls", self.put_acls),
            web.get(running, self.running_manifest),
            web.delete(running, self.terminate),
            web.delete(f"{running}/async", self.terminate_soon),
            web.get(f"{running}/uis", self.interfaces),
            web.get("/terminated", self.list_terminated),
            web.get("/terminated/{owner}", self.list_terminated),
            web.delete("/terminated/{owner}", self.delete_all),
            web.get("/terminated/{owner}/acls", self.get_acls),
            web.put("/terminated/{owner}/acls", self.put_acls),
            web.get(terminated, self.terminated_manifest),
            web.delete(terminated, self.delete),
        ]

    async def list_running(self, request: web.Request) -> web.Response:
        return await self._list(request, self._launcher.running(), Stage.RUNNING)

    async def list_terminated(self, request: web.Request) -> web.Response:
        return await self._list(request, self._launcher.terminated(), Stage.TERMINATED)

    async def terminate_all(self, request: web.Request) -> web.Response:
        owner = request.match_info["owner"]
        self._access.require(current_caller(), owner, Level.WRITE, Stage.RUNNING)
        flag(request, "force")
        await self._launcher.terminate_all(owner)
        return web.Response(status=204)

    async def delete_all(self, request: web.Request) -> web.Response:
        owner = request.match_info["owner"]
        self._access.require(current_caller(), owner, Level.WRITE, Stage.TERMINATED)
        await self._launcher.delete_ended(owner)
        return web.Response(status=204)

    async def running_manifest(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.READ)
        if stage_of(found) is Stage.TERMINATED:
            return _moved(found, Stage.TERMINATED)
        return await answer(request, await full_manifest(self._launcher, found))

    async def terminated_manifest(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.READ)
        if stage_of(found) is Stage.RUNNING:
            return _moved(found, Stage.RUNNING)
        return await answer(request, await full_manifest(self._launcher, found))

    async def interfaces(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.READ)
        if isinstance(found, Query) or found.state.is_final:
            return _moved(found, Stage.TERMINATED)
        interfaces = await self._launcher.interfaces(found)
        return await answer(request, {found.payload: [interface_info(one) for one in interfaces]})

    async def terminate(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.WRITE)
        flag(request, "force")  # what does not go by itself is killed in any case
        after = await self._launcher.terminate(found)
        return await answer(request, dispatch_info(after), status=202)

    async def terminate_soon(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.WRITE)
        flag(request, "force")
        after = await self._launcher.terminate_soon(found)
        return await answer(request, dispatch_info(after), status=202)

    async def delete(self, request: web.Request) -> web.Response:
        found = self._access.find(request, Level.WRITE)
        if stage_of(found) is Stage.RUNNING:
            raise NotFound(f"environment {found.id} of {found.owner} has not ended")
        await self._launcher.delete(found)
        return web.Response(status=204)

    async def get_acls(self, request: web.Request) -> web.Response:
        owner, stage = check_user_name(request.match_info["owner"]), _stage(request)
        self._access.require(current_caller(), owner, Level.READ, stage)
        return await answer(request, render_acls(self._acls.get(owner, stage)))

    async def put_acls(self, request: web.Request) -> web.Response:
        owner, stage = check_user_name(request.match_info["owner"]), _stage(request)
        self._access.require(current_caller(), owner, Level.ADMIN, stage)
        acls = parse_acls(await read_data(request))
        async with self._changing_acls:
            await asyncio.to_thread(self._acls.put, owner, stage, acls)
        return web.Response(status=204)

    async def _list(
        self, request: web.Request, found: Sequence[Dispatch | Query], stage: Stage
    ) -> web.Response:
        caller, owner = current_caller(), request.match_info.get("owner")
        wanted, event_limit = states(request), number(request, "eventLimit")
        offset, limit = number(request, "offset") or 0, number(request, "limit")
        is_reversed = flag(request, "reverse")
        if owner is not None:
            self._access.require(caller, owner, Level.READ, stage)
            chosen = [one for one in found if one.owner == owner]
        else:
            # A master takes what it does not know of this list for left over and ends it, so one
            # master must not see what another one has launched.
            chosen = [
                one
                for one in found
                if self._access.may(caller, one.owner, Level.READ, stage)
                and (one.scope == caller.scope or not caller.is_admin)
            ]
        if wanted:
            chosen = [one for one in chosen if state_of(one) in wanted]
        if is_reversed:
            chosen.reverse()
        shown = chosen[offset : None if limit is None else offset + limit]
        entries = [dispatch_info(one, event_limit=event_limit) for one in shown]
        return await answer(request, {"data": entries}, is_long=len(entries) > _MANY)


def _stage(request: web.Request) -> Stage:
    return Stage(request.path.split("/")[1])


def _moved(found: Dispatch | Query, stage: Stage) -> web.Response:
    path = f"/{stage}/{quote(found.owner, safe='')}/environments/{quote(found.id, safe='')}"
    return web.Response(status=301, headers={"Location": path})
