"""Checkpoints, put together: their records, their removal, and what is around them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from shipway_master.auth import Authenticator
from shipway_master.checkpoints.download.routes import CheckpointRoutes
from shipway_master.checkpoints.gc import Collector
from shipway_master.checkpoints.records import CheckpointRecords
from shipway_master.services.checkpointreports import CheckpointReportService
from shipway_master.services.checkpoints import CheckpointService
from shipway_master.store.database import Database
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointParts:
    """What the rest of the master needs of checkpoints."""

    collector: Collector
    services: Sequence[object]
    routes: Sequence[web.AbstractRouteDef]


@asynccontextmanager
async def running_checkpoints(
    database: Database, authenticator: Authenticator, tasks: Tasks, workspaces: Workspaces
) -> AsyncGenerator[CheckpointParts]:
    """Care for checkpoints until the block ends; entered before tasks are taken up again."""
    records = CheckpointRecords(database)
    async with Collector(database, tasks, workspaces) as collector:
        yield CheckpointParts(
            collector=collector,
            services=[
                CheckpointReportService(database, records),
                CheckpointService(database, records, collector),
            ],
            routes=CheckpointRoutes(database, authenticator, records, collector).routes(),
        )
