"""Routes beside the API that tell who and how this master is."""

from __future__ import annotations

from aiohttp import web
from sqlalchemy import text

from shipway_master.errors import MasterError
from shipway_master.gateway.encode import dump
from shipway_master.identity import VERSION, Identity
from shipway_master.store.database import Database


class InfoRoutes:
    """`/info` and `/health`; open to all."""

    def __init__(self, identity: Identity, database: Database) -> None:
        self._identity, self._database = identity, database

    def routes(self) -> list[web.RouteDef]:
        """List the routes for the site."""
        return [
            web.get("/info", self._info),
            web.get("/health", self._health),
        ]

    async def _info(self, _: web.Request) -> web.Response:
        return _json(
            200,
            {
                "version": VERSION,
                "master_id": self._identity.master_id,
                "cluster_id": self._identity.cluster_id,
                "cluster_name": self._identity.cluster_name,
                "telemetry": {"enabled": False, "otel_enabled": False, "otel_endpoint": ""},
                "sso_providers": None,
            },
        )

    async def _health(self, _: web.Request) -> web.Response:
        try:
            async with self._database.reading() as session:
                await session.execute(text("SELECT 1"))
        except MasterError:
            return _json(503, {"status": "down", "database": "down"})
        return _json(200, {"status": "up", "database": "up"})


def _json(status: int, data: dict[str, object]) -> web.Response:
    return web.Response(status=status, body=dump(data), content_type="application/json")
