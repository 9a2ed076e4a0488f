"""The routes below `/proxy`, and who may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import web

from shipway_master.auth import Authenticator, find_token
from shipway_master.background import Background
from shipway_master.errors import PermissionDenied, Unauthenticated
from shipway_master.gateway.rest import lower_headers
from shipway_master.gateway.site import message_response
from shipway_master.proxy.http import forward, forward_websocket
from shipway_master.proxy.readiness import watch_services
from shipway_master.proxy.targets import (
    ServiceNotFound,
    ServiceUnreachable,
    Target,
    find_target,
    require_reachable,
)
from shipway_master.proxy.tcp import CONNECT_LIMIT_S, tunnel
from shipway_master.proxynetworks import ProxyNetworks
from shipway_master.tasks.errors import TaskNotFound
from shipway_master.tasks.records import get_service_address
from shipway_master.tasks.tasks import Tasks

_READY_INTERVAL_S = 0.5


class Proxy:
    """Leads to the services of tasks; entered, it also watches which of them are ready."""

    def __init__(
        self,
        tasks: Tasks,
        authenticator: Authenticator,
        networks: ProxyNetworks,
        *,
        note_use: Callable[[str], None],
    ) -> None:
        """Get ready.

        Args:
            networks: Where it leads when a task says by itself where it is.
            note_use: Is called with the id of the task, for each request to it that is let through.
        """
        self._tasks, self._authenticator, self._networks = tasks, authenticator, networks
        self._note_use = note_use
        self._closing = asyncio.Event()
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_LIMIT_S),
                auto_decompress=False,
                trust_env=False,
            )
        )
        background = await self._stack.enter_async_context(Background())
        background.start(
            watch_services(self._tasks, self._networks, interval_s=_READY_INTERVAL_S),
            name="services",
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def hang_up(self) -> None:
        """End the open tunnels and websockets, so that the port can close."""
        self._closing.set()

    @property
    def routes(self) -> list[web.RouteDef]:
        """The routes for the site."""
        return [
            web.route("*", "/proxy/{service}", self._handle),
            web.route("*", r"/proxy/{service}/{path:(?s:.*)}", self._handle),
            web.get("/det/interactive/{task_id}/{path:.*}", self._enter),
        ]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        service = request.match_info["service"]
        try:
            target = await find_target(service, self._tasks)
            refusal = None if target.is_open else await self._check(request, service, target)
        except ServiceNotFound as error:
            return message_response(404, str(error))
        if refusal is not None:
            return refusal
        try:
            target = await require_reachable(target, self._networks)
        except ServiceUnreachable as error:
            return message_response(502, str(error))
        self._note_use(service.partition(":")[0])
        if target.is_tcp:
            return await tunnel(request, target, self._closing)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await forward_websocket(request, target, self._session, self._closing)
        return await forward(request, target, self._session)

    async def _enter(self, request: web.Request) -> web.StreamResponse:
        """Lead the links that clients print to a task's service, with its token if it is theirs."""
        try:
            record = await self._tasks.get(request.match_info["task_id"])
        except TaskNotFound as error:
            return message_response(404, str(error))
        headers = lower_headers(request)
        carriers = {name: headers[name] for name in ("authorization",) if name in headers}
        try:
            principal = await self._authenticator.principal(
                find_token(carriers, cookie=request.cookies.get("auth"))
            )
        except (Unauthenticated, PermissionDenied):
            return _send_to_login(request)
        is_theirs = principal.is_admin or principal.user_id == record.owner_id
        address = get_service_address(record, with_token=is_theirs)
        return web.Response(status=303, headers={"Location": address})

    async def _check(
        self, request: web.Request, service: str, target: Target
    ) -> web.StreamResponse | None:
        """Answer whoever may not use a service; None lets him through.

        Raises:
            ServiceNotFound: It is another user's.
        """
        headers = lower_headers(request)
        carriers = {name: headers[name] for name in ("authorization",) if name in headers}
        cookie = request.cookies.get("auth")
        if "authorization" not in carriers and not _is_same_site(request):
            return message_response(403, "a page of another site may not use this service")
        if not carriers and cookie is None:
            return message_response(401, "Unauthorized")
        try:
            principal = await self._authenticator.principal(find_token(carriers, cookie=cookie))
        except (Unauthenticated, PermissionDenied):
            return _send_to_login(request)
        if principal.allocation_id is not None:
            return _send_to_login(request)
        if principal.user_id != target.owner_id and not principal.is_admin:
            raise ServiceNotFound(service)
        return None


def _is_same_site(request: web.Request) -> bool:
    """Whether a page of this site asks, or no page: browsers add their cookies for any page."""
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.host.lower()


def _send_to_login(request: web.Request) -> web.Response:
    where = quote(request.raw_path, safe="")
    return web.Response(status=303, headers={"Location": f"/det/login?redirect={where}"})
