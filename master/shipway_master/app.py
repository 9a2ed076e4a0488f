"""The parts of a master, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from shipway_master.auth import Authenticator
from shipway_master.config import MasterConfig
from shipway_master.rpc import Registry
from shipway_master.store import Database
from shipway_master.store.database import opened

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """A running master."""

    database: Database
    registry: Registry


@asynccontextmanager
async def running(config: MasterConfig) -> AsyncGenerator[Master]:
    """Run a master until the block ends.

    Entered in this order, left in reverse:

    1. the database, its migrations run;
    2. the authenticator;
    3. parts with background work, each an `async with` of its own that ends its tasks;
    4. the registry of services, which on the way out first lets calls in progress end.
    """
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(opened(config.db.resolve_url(config.data)))
        authenticator = Authenticator(database)
        services: list[object] = []
        registry = await stack.enter_async_context(Registry(services, authenticator))
        yield Master(database=database, registry=registry)
