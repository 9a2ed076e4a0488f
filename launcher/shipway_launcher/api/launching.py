"""`/launch`: manifests, and the credentials of users."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from aiohttp import web

from shipway_launcher.api.access import current_caller, runs_as
from shipway_launcher.api.answers import answer
from shipway_launcher.api.bodies import read_body, read_json
from shipway_launcher.api.callers import Callers
from shipway_launcher.api.parameters import wanted_age_s
from shipway_launcher.api.wire import dispatch_info
from shipway_launcher.carriers.table import Purpose, choose_carrier
from shipway_launcher.credentials import CredentialStore
from shipway_launcher.errors import (
    Forbidden,
    NotAllowed,
    NotFound,
    TooLarge,
    TooSlow,
    WrongRequest,
)
from shipway_launcher.launches import Wish
from shipway_launcher.manifest import parse_json, parse_manifest
from shipway_launcher.service import Launcher
from shipway_launcher.tokenbook import TokenEntry


class Launching:
    """The handlers."""

    def __init__(self, launcher: Launcher, callers: Callers, credentials: CredentialStore) -> None:
        """Use these."""
        self._launcher, self._callers, self._credentials = launcher, callers, credentials

    def routes(self) -> list[web.RouteDef]:
        """Return which path has which handler."""
        credentials = "/launch/credentials/{owner}/{name}"
        return [
            web.put("/launch", self.launch),
            web.put("/launch/async", self.launch_soon),
            web.put(credentials, self.put_credentials),
            web.head(credentials, self.has_credentials),
            web.delete(credentials, self.delete_credentials),
        ]

    async def launch(self, request: web.Request) -> web.Response:
        with _limits_as_wrong_requests():
            body, wish = await self._read(request)
            launched = await self._launcher.launch(body, wish)
        return await answer(request, dispatch_info(launched), status=201)

    async def launch_soon(self, request: web.Request) -> web.Response:
        with _limits_as_wrong_requests():
            body, wish = await self._read(request)
            launched = await self._launcher.launch_soon(body, wish)
        return await answer(request, dispatch_info(launched), status=202)

    async def put_credentials(self, request: web.Request) -> web.Response:
        caller, owner = current_caller(), request.match_info["owner"]
        _require_owner(caller, owner)
        content = await read_body(request)
        await asyncio.to_thread(self._credentials.put, owner, request.match_info["name"], content)
        return web.Response(status=201)

    async def has_credentials(self, request: web.Request) -> web.Response:
        caller, owner = current_caller(), request.match_info["owner"]
        is_theirs = caller.is_admin or caller.user == owner
        name = request.match_info["name"]
        if not is_theirs or not await asyncio.to_thread(self._credentials.exists, owner, name):
            raise NotFound(f"{owner[:80]} has no credential {name[:200]}")
        return web.Response(status=204)

    async def delete_credentials(self, request: web.Request) -> web.Response:
        caller, owner = current_caller(), request.match_info["owner"]
        _require_owner(caller, owner)
        await asyncio.to_thread(self._credentials.remove, owner, request.match_info["name"])
        return web.Response(status=204)

    async def _read(self, request: web.Request) -> tuple[bytes, Wish]:
        caller = current_caller()
        user = runs_as(caller, request.query.get("impersonate", ""))
        body = await read_json(request)
        if caller.is_read_only or caller.is_replaced:
            manifest = await asyncio.to_thread(lambda: parse_manifest(parse_json(body)))
            purpose = choose_carrier(manifest.carriers).purpose
            if caller.is_read_only and purpose is Purpose.JOB:
                raise Forbidden("the token is for reading only; it can launch queries")
            if purpose is Purpose.RESOURCES and self._callers.is_to_learn(caller):
                raise NotAllowed(
                    "the token has been replaced by the one that is in auth_file now; it is taken"
                    f" until {caller.expires_at}"
                )
        wish = Wish(
            user=user,
            dispatch_id=request.query.get("dispatchId"),
            scope=caller.scope,
            max_age_s=wanted_age_s(request),
        )
        return body, wish


@contextmanager
def _limits_as_wrong_requests() -> Generator[None]:
    """Answer 400 where a limit is passed: of what comes with 408 or 413 the master shows no word."""
    try:
        yield
    except (TooLarge, TooSlow) as error:
        raise WrongRequest(str(error)) from error


def _require_owner(caller: TokenEntry, owner: str) -> None:
    if caller.is_read_only:
        raise Forbidden("the token is for reading only")
    if not caller.is_admin and caller.user != owner:
        raise Forbidden(f"credentials of {owner[:80]} are for {owner[:80]} and administrators only")
