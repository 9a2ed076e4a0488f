"""The parts of a master, put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from shipway_master.auth import Authenticator
from shipway_master.checkpoints.download.routes import CheckpointRoutes
from shipway_master.cluster.parts import running_cluster
from shipway_master.config import MasterConfig
from shipway_master.first_start import furnish
from shipway_master.gateway.info import InfoRoutes
from shipway_master.identity import load_identity
from shipway_master.logbook import LogBook, StoredTasks
from shipway_master.metrics import MetricsRoutes
from shipway_master.notice import ClusterNotice
from shipway_master.page import PageRoutes
from shipway_master.readings import Readings
from shipway_master.recentlogs import keeping_recent_logs
from shipway_master.retention import LogRetention
from shipway_master.rpc import Registry
from shipway_master.rpc.meter import CallMeter
from shipway_master.server import serving
from shipway_master.services.auth import AuthService
from shipway_master.services.logs import LogService
from shipway_master.services.manyusers import ManyUsersService
from shipway_master.services.master import MasterService
from shipway_master.services.models import ModelService
from shipway_master.services.modelversions import ModelVersionService
from shipway_master.services.policies import PolicyService
from shipway_master.services.profiler import ProfilerService
from shipway_master.services.roles import RoleService
from shipway_master.services.search import SearchService
from shipway_master.services.settings import UserSettingService
from shipway_master.services.templates import TemplateService
from shipway_master.services.tokens import TokenService
from shipway_master.services.usage import UsageService
from shipway_master.services.users import UserService
from shipway_master.store.database import opened
from shipway_master.trialmetrics.facts import KnownTrials
from shipway_master.usage import UsageRoutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """A running master, as far as its starter needs to know."""

    port: int
    """The port it listens on."""
    password_file: Path | None
    """Where the generated password of the first users is, if one was generated."""
    describe: Callable[[], str]
    """Says in a few words what the master does."""


@asynccontextmanager
async def running(config: MasterConfig) -> AsyncGenerator[Master]:
    """Run a master until the block ends.

    Entered in this order, left in reverse:

    1. the database, its migrations run; the first users and workspace;
    2. the log book, which writes what is still waiting before it goes, and what removes old logs;
    3. the cluster: what ran before is taken up, and is let go of again;
    4. the registry of services, which lets calls in progress end;
    5. the port: it is open only while everything behind it is there.
    """
    async with AsyncExitStack() as stack:
        recent_logs = stack.enter_context(keeping_recent_logs())
        database = await stack.enter_async_context(opened(config.db.resolve_url(config.data)))
        password_file = await furnish(database, config.security, config.data)
        identity = await load_identity(database, config.cluster_name)
        authenticator = Authenticator(database)
        log_book = await stack.enter_async_context(LogBook(database))
        retention = LogRetention(config.retention_policy, database, log_book)
        await stack.enter_async_context(retention.on_schedule())
        auth = AuthService(database, authenticator)
        services: list[object] = [
            auth,
            UserService(database, authenticator),
            ManyUsersService(database, authenticator),
            RoleService(database),
            PolicyService(database),
            MasterService(
                config, identity, recent_logs, ClusterNotice(database), retention=retention
            ),
            TokenService(database, authenticator, config.security.token),
            UserSettingService(database),
            TemplateService(database),
            ModelService(database),
            ModelVersionService(database),
            LogService(log_book, StoredTasks(database)),
            ProfilerService(Readings(database), KnownTrials(database)),
            UsageService(database),
            SearchService(),
        ]
        cluster = await stack.enter_async_context(
            running_cluster(
                config,
                database=database,
                authenticator=authenticator,
                logbook=log_book,
                identity=identity,
            )
        )
        services += cluster.services
        meter = CallMeter()
        routes: list[web.AbstractRouteDef] = [
            *InfoRoutes(identity, database).routes(),
            *MetricsRoutes(authenticator, cluster.make_collector(), meter).routes(),
            *UsageRoutes(database, authenticator).routes(),
            *CheckpointRoutes(database, authenticator).routes(),
            *cluster.routes,  # before the page, which takes what is left below /det
            *PageRoutes(authenticator, list_problems=cluster.list_slot_problems).routes(),
        ]
        registry = await stack.enter_async_context(Registry(services, authenticator, meter=meter))
        port = await stack.enter_async_context(serving(config, registry, authenticator, routes))
        stack.callback(cluster.hang_up)
        stack.callback(auth.hang_up)
        cluster.begin(port)
        yield Master(port=port, password_file=password_file, describe=cluster.describe)
