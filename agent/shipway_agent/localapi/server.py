"""HTTP: the routes of the local port and its socket. Everything is read-only, and nothing secret."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from shipway_agent.config import AgentSettings
from shipway_agent.localapi.exposition import Families
from shipway_agent.localapi.parts import Parts, list_containers
from shipway_agent.slots.slot import Detection
from shipway_agent.slots.table import render_json
from shipway_common.badhttp import server_log

log = logging.getLogger(__name__)

FindParts = Callable[[], Parts | None]

_RELOAD_S = 60.0
_STOP_S = 2.0
_NOT_REGISTERED = "the agent is looking for its devices and its container runtime"


async def serve(
    settings: AgentSettings, find_parts: FindParts, *, reload_s: float = _RELOAD_S
) -> None:
    """Serve until cancelled.

    Args:
        settings: Where, and with which certificate.
        find_parts: What there is to show at the moment; None: the agent is not registered.
        reload_s: How often the certificate is read again, in seconds.

    Raises:
        OSError: The port cannot be had, or the certificate cannot be read.
    """
    trust = _Certificate(settings.tls_cert, settings.tls_key) if settings.tls else None
    if trust is not None:
        await asyncio.to_thread(trust.load)
    app = make_app(settings, find_parts)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_S, logger=server_log)
    await runner.setup()
    try:
        site = web.TCPSite(
            runner,
            settings.bind_ip.strip("[]"),
            settings.bind_port,
            ssl_context=trust.context if trust is not None else None,
        )
        await site.start()
        for host, port, *_ in runner.addresses:
            log.info("local port is open", extra={"host": host, "port": port})
        while True:
            await asyncio.sleep(reload_s)
            if trust is not None:
                with suppress(OSError):  # it may just be replaced; the old one still serves
                    await asyncio.to_thread(trust.load)
    finally:
        await runner.cleanup()


class _Certificate:
    """A certificate that may be renewed on disk while it is in use."""

    def __init__(self, certificate: Path | None, key: Path | None) -> None:
        assert certificate is not None  # the settings demand both
        self._certificate, self._key = certificate, key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def load(self) -> None:
        """Read it again; blocking.

        Raises:
            OSError: It cannot be used; what was read before still is.
        """
        # Tried apart first: a certificate and a key that do not fit would leave us without either.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            self._certificate, self._key
        )
        self.context.load_cert_chain(self._certificate, self._key)


def make_app(settings: AgentSettings, find_parts: FindParts) -> web.Application:
    """Make the application; see `serve`."""
    app = web.Application()
    view = _View(settings, find_parts)
    app.router.add_get("/", view.index)
    app.router.add_get("/metrics", view.metrics)
    app.router.add_get("/containers", view.containers)
    app.router.add_get("/slots", view.slots)
    app.router.add_get("/healthz", view.health)
    app.router.add_get("/readyz", view.readiness)
    app.router.add_get("/version", view.version)
    return app


class _View:
    """The answers."""

    def __init__(self, settings: AgentSettings, find_parts: FindParts) -> None:
        self._settings = settings
        self._find_parts = find_parts

    async def index(self, request: web.Request) -> web.Response:
        return _json({"paths": [resource.canonical for resource in request.app.router.resources()]})

    async def metrics(self, request: web.Request) -> web.Response:
        parts = self._find_parts()
        snapshot = await parts.sample() if parts is not None else None
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        families = Families(self._settings.agent_id, parts, snapshot)
        # Building it is some milliseconds of work for a node with many tasks.
        text = await asyncio.to_thread(encode, families)
        return web.Response(body=text, headers={"Content-Type": content_type})

    async def containers(self, request: web.Request) -> web.Response:
        parts = self._find_parts()
        if parts is None:
            return _json({"error": _NOT_REGISTERED}, status=503)
        snapshot = await parts.sample()
        return _json({"containers": list_containers(parts, snapshot.containers)})

    async def slots(self, request: web.Request) -> web.Response:
        parts = self._find_parts()
        if parts is None:
            return _json({"error": _NOT_REGISTERED}, status=503)
        text = render_json(Detection(slots=tuple(parts.slots())))
        return web.Response(text=text + "\n", content_type="application/json")

    async def health(self, request: web.Request) -> web.Response:
        return _json({"status": "ok"})

    async def readiness(self, request: web.Request) -> web.Response:
        parts = self._find_parts()
        reasons = [_NOT_REGISTERED] if parts is None else await parts.problems()
        return _json({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def version(self, request: web.Request) -> web.Response:
        name = {"name": "shipway-agent", "version": version("shipway")}
        return _json({**name, "agent_id": self._settings.agent_id})


def _json(body: object, *, status: int = 200) -> web.Response:
    return web.Response(
        text=json.dumps(body, indent=2) + "\n", status=status, content_type="application/json"
    )
