"""Links of callers: who connects and never asks for anything does not stay."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from shipway_launcher.api.problems import Handler

KEEP_IDLE_S = 600.0
"""For so long a link is kept for the next request. The Go master lets go of one after 90 s by itself;
it must not be us who do it first, because a launch that is sent at that moment is lost to it."""


class Links:
    """Closes links on which the first request does not arrive in time."""

    def __init__(self, first_request_s: float) -> None:
        """Give a new link so many seconds."""
        self._limit_s = first_request_s
        self._used: set[web.RequestHandler] = set()
        self._silent: dict[web.RequestHandler, float] = {}

    @web.middleware
    async def note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Note that a request has come."""
        self._used.add(request.protocol)
        return await handler(request)

    async def close_silent(self, server: web.Server) -> None:
        """Look for silent links again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._limit_s / 4)
            now = time.monotonic()
            links = server.connections
            self._used.intersection_update(links)
            self._silent = {
                link: self._silent.get(link, now) for link in links if link not in self._used
            }
            for link, since in self._silent.items():
                if now - since >= self._limit_s:
                    link.force_close()
