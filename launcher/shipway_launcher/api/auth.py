"""The gate: who may call at all, and how often."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from aiohttp import web

from shipway_common.logsetup import log_context
from shipway_launcher.api.access import set_caller
from shipway_launcher.api.callers import Callers
from shipway_launcher.api.problems import Handler
from shipway_launcher.api.rates import Rates
from shipway_launcher.errors import NotAllowed, TooMany
from shipway_launcher.tokenbook import TokenEntry

log = logging.getLogger(__name__)

_OPEN = "/info/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Lets requests in, or not."""

    callers: Callers
    anybody: TokenEntry | None
    """As whom those without a token call; None: they do not."""
    rates: Rates
    """Of each user, and of each address from which wrong tokens come. An administrator is never
    held up: the master takes that for the end of a task."""

    async def admit(self, request: web.Request) -> TokenEntry:
        """Return who calls.

        Raises:
            NotAllowed: Nobody that we know.
            TooMany: Somebody who has to wait.
        """
        if self.anybody is not None:
            return self.anybody
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                token = ""
            caller = await self.callers.find(token.strip())
        except NotAllowed:
            self._take(f"address {request.remote}")
            raise
        if not caller.is_admin:
            self._take(f"user {caller.user}")
        return caller

    def _take(self, name: str) -> None:
        wait_s = self.rates.take(name)
        if wait_s > 0:
            raise TooMany(
                f"too many requests of {name} (limits.requests_per_s of the launcher's settings)",
                retry_after_s=wait_s,
            )

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let through who sends a token; what is below /info/ is for everybody."""
        if request.path.startswith(_OPEN):
            return await handler(request)
        caller = await self.admit(request)
        set_caller(caller)
        with log_context(caller=caller.user):
            return await handler(request)
