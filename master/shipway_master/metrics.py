"""What the cluster is doing, as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from shipway_master.auth import Authenticator
from shipway_master.gateway.site import require_user
from shipway_master.identity import VERSION, Identity
from shipway_master.rpc.meter import CallMeter
from shipway_proto.determined.agent.v1.agent_pb2 import Agent, Slot
from shipway_proto.determined.resourcepool.v1.resourcepool_pb2 import ResourcePool

_SLOT_STATES = ("free", "busy", "draining", "disabled")


class ClusterCollector(Collector):
    """Pools and agents as they are when somebody asks."""

    def __init__(
        self,
        identity: Identity,
        *,
        list_pools: Callable[[], Sequence[ResourcePool]],
        list_agents: Callable[[], Sequence[Agent]],
    ) -> None:
        self._identity = identity
        self._list_pools, self._list_agents = list_pools, list_agents

    def collect(self) -> Iterator[Metric]:
        """Look."""
        about = {"version": VERSION, "cluster_name": self._identity.cluster_name}
        yield InfoMetricFamily("shipway_master", "What this master is.", about)
        pools, agents = self._list_pools(), self._list_agents()
        jobs = GaugeMetricFamily(
            "shipway_master_jobs", "Jobs by pool and state.", labels=("pool", "state")
        )
        for pool in pools:
            jobs.add_metric((pool.name, "queued"), pool.stats.queued_count)
            jobs.add_metric((pool.name, "scheduled"), pool.stats.scheduled_count)
        yield jobs
        yield self._count_agents(pools, agents)
        yield self._count_slots(pools, agents)

    def _count_agents(
        self, pools: Sequence[ResourcePool], agents: Sequence[Agent]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "shipway_master_agents",
            "Agents (or nodes of Slurm) by pool, and whether they take work.",
            labels=("pool", "enabled"),
        )
        counts = Counter(
            (pool, agent.enabled and not agent.draining)
            for agent in agents
            for pool in agent.resource_pools
        )
        for pool in pools:
            for is_enabled in (True, False):
                value = counts[pool.name, is_enabled]
                family.add_metric((pool.name, str(is_enabled).lower()), value)
        return family

    def _count_slots(
        self, pools: Sequence[ResourcePool], agents: Sequence[Agent]
    ) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "shipway_master_slots",
            "Slots by pool and state; sick ones count as draining.",
            labels=("pool", "state"),
        )
        counts = Counter(
            (pool, _state_of(slot))
            for agent in agents
            for pool in agent.resource_pools
            for slot in agent.slots.values()
        )
        for pool in pools:
            for state in _SLOT_STATES:
                family.add_metric((pool.name, state), counts[pool.name, state])
        return family


class MetricsRoutes:
    """`/debug/prom/metrics` and `/prom/det-state-metrics`, where scrapers of the original look."""

    def __init__(
        self, authenticator: Authenticator, collector: ClusterCollector, meter: CallMeter
    ) -> None:
        self._authenticator = authenticator
        self._state = CollectorRegistry()
        self._state.register(collector)
        self._own = meter.registry
        ProcessCollector(namespace="shipway_master", registry=self._own)

    def routes(self) -> list[web.RouteDef]:
        """List the routes for the site."""
        return [
            web.get("/prom/det-state-metrics", self._show_state),
            web.get("/debug/prom/metrics", self._show_own),
        ]

    async def _show_state(self, request: web.Request) -> web.Response:
        return await self._show(request, self._state)

    async def _show_own(self, request: web.Request) -> web.Response:
        return await self._show(request, self._own)

    async def _show(self, request: web.Request, registry: CollectorRegistry) -> web.Response:
        await require_user(request, self._authenticator)
        encoder, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encoder(registry), headers={"Content-Type": content_type})


def _state_of(slot: Slot) -> str:
    if slot.draining:
        return "draining"
    if not slot.enabled:
        return "disabled"
    return "busy" if slot.HasField("container") else "free"
