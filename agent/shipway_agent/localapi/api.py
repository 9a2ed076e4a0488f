"""The local port from the agent's start to its end, whatever the agent serves meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self

from shipway_agent.config import AgentSettings
from shipway_agent.localapi.parts import Parts
from shipway_agent.master.endpoint import is_local

log = logging.getLogger(__name__)

_RETRY_S = 15.0


class LocalApi:
    """Serves what `showing` gives it, if the settings want that at all. To be entered.

    A port that cannot be had does not end the agent, nor any task: it is tried again.
    """

    def __init__(self, settings: AgentSettings, *, retry_s: float = _RETRY_S) -> None:
        """Prepare.

        Args:
            settings: Say whether, where and how.
            retry_s: Wait before another try to get the port, in seconds.
        """
        self._settings = settings
        self._retry_s = retry_s
        self._parts: Parts | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._settings.api_enabled:
            self._task = asyncio.create_task(self._serve(), name="local API")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @contextmanager
    def showing(self, parts: Parts) -> Generator[None]:
        """Show *parts* of the agent while the body runs."""
        self._parts = parts
        try:
            yield
        finally:
            self._parts = None

    async def _serve(self) -> None:
        settings, problem = self._settings, ""
        if not is_local(settings.bind_ip.strip("[]")) and not settings.tls:
            log.warning(
                "bind_ip: the local port is open to other machines, without TLS; it has no log-in",
                extra={"bind_ip": settings.bind_ip},
            )
        while True:
            text = await self._try()
            if text != problem:
                problem = text
                where = f"{settings.bind_ip}:{settings.bind_port}"
                log.error("no local port at %s, trying again: %s", where, text)
            await asyncio.sleep(self._retry_s)

    async def _try(self) -> str:
        """Serve as long as it goes; returns why it does not go on."""
        # Not before it is wanted: this costs some MiB.
        from shipway_agent.localapi.server import serve

        try:
            await serve(self._settings, lambda: self._parts)
        except OSError as error:  # those of ssl are some, too
            return str(error)
        except Exception:
            log.exception("the local port failed")
        return "internal error"
