"""The cluster side of the master, put together: resource managers, allocations, tasks, services."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from shipway_master.agents.config import AgentManagerConfig
from shipway_master.agents.endpoint import AgentEndpoint
from shipway_master.agents.manager import AgentManager
from shipway_master.agents.messages import MasterInfo
from shipway_master.agents.output import TaskOutput
from shipway_master.agents.records import AgentRecords
from shipway_master.agents.session import Heartbeat
from shipway_master.allocations.live import Allocations
from shipway_master.allocations.surroundings import Timings
from shipway_master.auth import Authenticator
from shipway_master.background import Background
from shipway_master.cluster.cluster import Cluster
from shipway_master.cluster.config import PoolConfig, ResourceManagerConfig
from shipway_master.cluster.experiments import running_experiments
from shipway_master.cluster.manager import ResourceManager
from shipway_master.config import MasterConfig
from shipway_master.hpc.client import LauncherClient
from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.hpc.manager import SlurmManager
from shipway_master.hpc.manifest import Site
from shipway_master.hpc.records import DispatchRecords
from shipway_master.identity import VERSION, Identity
from shipway_master.logbook import LogBook
from shipway_master.metrics import ClusterCollector
from shipway_master.policies.records import PolicyRecords
from shipway_master.proxy import Proxy
from shipway_master.proxynetworks import ProxyNetworks
from shipway_master.services.agents import AgentService
from shipway_master.services.allocations import AllocationService
from shipway_master.services.bindings import BindingService
from shipway_master.services.commands import CommandService
from shipway_master.services.generic import GenericTaskService
from shipway_master.services.jobs import JobService
from shipway_master.services.namespaces import NamespaceService
from shipway_master.services.notebooks import NotebookService
from shipway_master.services.pools import PoolService
from shipway_master.services.projects import ProjectService
from shipway_master.services.shells import ShellService
from shipway_master.services.tasks import TaskService
from shipway_master.services.tensorboards import TensorboardService
from shipway_master.services.visits import VisitService
from shipway_master.services.workspaces import WorkspaceService
from shipway_master.store.database import Database
from shipway_master.tasks.idle import IdleWatch
from shipway_master.tasks.owners import Owners
from shipway_master.tasks.places import Places
from shipway_master.tasks.records import TaskRecords
from shipway_master.tasks.tasks import Tasks
from shipway_master.tasks.workspaces import Workspaces
from shipway_master.usage.waits import QueueTimes
from shipway_master.workspaces.removal import Removal

_IDLE_INTERVAL_S = 1.0


@dataclass(slots=True)
class _OwnAddress:
    """Where tasks in Slurm jobs reach this master; the port is known when it is open."""

    host: str
    port: int

    @property
    def reachable_host(self) -> str:
        """The host to connect to; a wildcard stands for all of this one's addresses."""
        return socket.gethostname() if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104


class ClusterParts:
    """What the rest of the master needs of the cluster side."""

    def __init__(
        self,
        *,
        services: Sequence[object],
        endpoint: AgentEndpoint,
        agents: AgentManager,
        proxy: Proxy,
        launchers: Sequence[SlurmManager],
        address: _OwnAddress,
        cluster: Cluster,
        identity: Identity,
        tasks: Tasks,
    ) -> None:
        self.services = services
        """Objects with methods named as RPCs."""
        self._endpoint = endpoint
        self._agents = agents
        self._proxy = proxy
        self._launchers = launchers
        self._address = address
        self._cluster, self._identity = cluster, identity
        self._tasks = tasks

    @property
    def routes(self) -> list[web.AbstractRouteDef]:
        """Routes beside the API."""
        return [self._endpoint.route, *self._proxy.routes]

    def make_collector(self) -> ClusterCollector:
        """Make what shows the state of the cluster as metrics."""
        return ClusterCollector(
            self._identity,
            list_pools=self._cluster.list_pools,
            list_agents=self._cluster.list_agents,
        )

    def list_slot_problems(self) -> dict[str, dict[int, str]]:
        """Why slots are not fit for use, by agent and slot."""
        return self._agents.list_problems()

    def describe(self) -> str:
        """Say in a few words what goes on."""
        return f"{self._agents.count()} agents, {len(self._tasks.list_open())} tasks"

    def hang_up(self) -> None:
        """Close the connections of agents and to services, so that the port can close."""
        self._proxy.hang_up()
        self._endpoint.close()
        self._agents.hang_up()

    def begin(self, port: int) -> None:
        """Start to place tasks; called when the master's *port* is open."""
        self._address.port = port
        self._agents.begin()
        for launcher in self._launchers:
            launcher.begin()


@asynccontextmanager
async def running_cluster(
    config: MasterConfig,
    *,
    database: Database,
    authenticator: Authenticator,
    logbook: LogBook,
    identity: Identity,
) -> AsyncGenerator[ClusterParts]:
    """Run the cluster side until the block ends; tasks of an earlier process are taken up first.

    Entered in this order, left in reverse: the allocations' timers, the agents, the launchers,
    the experiments, deletions and the watch over idle services, the proxy.
    Leaving lets go of what runs on agents and in Slurm, and ends none of it.
    """
    address = _OwnAddress(config.host, config.port)
    async with AsyncExitStack() as stack:
        allocations = await stack.enter_async_context(
            Allocations(database, logbook, authenticator, timings=Timings())
        )
        configs = config.list_resource_managers()
        agents = await stack.enter_async_context(
            _make_agent_manager(configs, database, logbook, identity)
        )
        launchers: list[SlurmManager] = []
        managers: list[ResourceManager] = []
        for manager, pools in configs:
            if isinstance(manager, SlurmManagerConfig):
                launcher = _make_slurm_manager(manager, pools, database, identity, config, address)
                launchers.append(await stack.enter_async_context(launcher))
                managers.append(launcher)
            else:
                managers.append(agents)
        if agents not in managers:
            managers.append(agents)  # agents are welcome beside a launcher
        cluster = Cluster(managers, config.task_container_defaults)
        tasks = Tasks(
            records=TaskRecords(database),
            allocations=allocations,
            cluster=cluster,
            owners=Owners(database, config.security.default_task),
            authenticator=authenticator,
            logbook=logbook,
            uses_tls=config.security.tls.cert is not None,
        )
        places = Places(tasks, cluster, Workspaces(database), PolicyRecords(database))
        experiments = await stack.enter_async_context(
            running_experiments(
                config,
                database=database,
                tasks=tasks,
                places=places,
                cluster=cluster,
                logbook=logbook,
            )
        )
        tensorboards = TensorboardService(
            database,
            tasks,
            places,
            identity=identity,
            idle_timeout_s=config.tensorboard_timeout,
        )
        await tasks.restore()
        await experiments.resume()
        background = await stack.enter_async_context(Background())
        removal = Removal(
            database,
            tasks,
            delete_experiment=experiments.changes.delete_wholly,
            background=background,
        )
        await removal.resume()
        idle_watch = IdleWatch(tasks)
        proxy_networks = ProxyNetworks(config.security.proxy_networks)
        proxy = await stack.enter_async_context(
            Proxy(tasks, authenticator, proxy_networks, note_use=idle_watch.note_use)
        )
        background.start(
            idle_watch.keep_watching(interval_s=_IDLE_INTERVAL_S), name="idle services"
        )
        yield ClusterParts(
            services=[
                AgentService(cluster, agents),
                PoolService(database, cluster),
                WorkspaceService(database, cluster, removal),
                ProjectService(database, removal, experiments.experiments),
                VisitService(database),
                BindingService(database, cluster),
                NamespaceService(),
                JobService(
                    tasks,
                    places,
                    cluster,
                    QueueTimes(database),
                    experiments=experiments.experiments,
                    changes=experiments.changes,
                ),
                CommandService(database, tasks, places),
                ShellService(database, tasks, places),
                NotebookService(
                    database,
                    tasks,
                    places,
                    idle_watch=idle_watch,
                    idle_timeout_s=config.notebook_timeout,
                ),
                tensorboards,
                GenericTaskService(database, tasks),
                TaskService(database, tasks, allocations),
                AllocationService(database, tasks, allocations, proxy_networks),
                *experiments.services,
            ],
            endpoint=AgentEndpoint(agents, heartbeat=Heartbeat.with_limit(agents.silence_limit_s)),
            agents=agents,
            proxy=proxy,
            launchers=launchers,
            address=address,
            cluster=cluster,
            identity=identity,
            tasks=tasks,
        )


def _make_agent_manager(
    configs: Sequence[tuple[ResourceManagerConfig, Sequence[PoolConfig]]],
    database: Database,
    logbook: LogBook,
    identity: Identity,
) -> AgentManager:
    chosen, pools = AgentManagerConfig(), list[PoolConfig]()
    for manager, its_pools in configs:
        if isinstance(manager, AgentManagerConfig):
            chosen, pools = manager, list(its_pools)
    return AgentManager(
        chosen,
        pools,
        records=AgentRecords(database),
        output=TaskOutput(database, logbook),
        info=MasterInfo(
            version=VERSION,
            master_id=identity.master_id,
            cluster_id=identity.cluster_id,
            cluster_name=identity.cluster_name,
        ),
    )


def _make_slurm_manager(
    manager: SlurmManagerConfig,
    pools: Sequence[PoolConfig],
    database: Database,
    identity: Identity,
    config: MasterConfig,
    address: _OwnAddress,
) -> SlurmManager:
    def get_site() -> Site:
        host = manager.master_host or address.reachable_host
        port = manager.master_port or address.port
        scheme = "http" if config.security.tls.cert is None else "https"
        return Site(
            runtime=manager.container_run_type,
            master_url=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}",
            master_host=host,
            master_port=port,
            cluster_id=identity.cluster_id,
        )

    name = f"slurm:{manager.cluster_name}"
    return SlurmManager(
        manager,
        pools,
        client=LauncherClient(manager),
        records=DispatchRecords(database, name),
        get_site=get_site,
    )
