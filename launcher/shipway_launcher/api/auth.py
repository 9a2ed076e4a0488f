"""The gate: who may call at all, and how often."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

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
_MOST_AT_ONCE = 16
"""Requests of one user that are not answered yet: each may hold a body of limits.body_mib."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Lets requests in, or not."""

    callers: Callers
    anybody: TokenEntry | None
    """As whom those without a token call; None: they do not."""
    rates: Rates
    """Of each user, and of each address from which wrong tokens come. An administrator is never
    held up: the master takes that for the end of a task."""
    unanswered: dict[str, int] = field(default_factory=dict[str, int])
    """How many requests of each user."""

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

    @contextmanager
    def _one_more(self, caller: TokenEntry) -> Generator[None]:
        count = self.unanswered.get(caller.user, 0)
        if count >= _MOST_AT_ONCE and not caller.is_admin:
            raise TooMany(
                f"{count} requests of user {caller.user} are not answered yet", retry_after_s=1
            )
        self.unanswered[caller.user] = count + 1
        try:
            yield
        finally:
            self.unanswered[caller.user] -= 1
            if not self.unanswered[caller.user]:
                del self.unanswered[caller.user]

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let through who sends a token; what is below /info/ is for everybody."""
        if request.path.startswith(_OPEN):
            return await handler(request)
        caller = await self.admit(request)
        set_caller(caller)
        with log_context(caller=caller.user), self._one_more(caller):
            return await handler(request)
