"""The resource manager of node agents: who is there, who waits, and who gets which slots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self
from uuid import uuid4

from shipway_master.agents.agent import Agent, PlacedContainer
from shipway_master.agents.config import AgentManagerConfig, Scheduler
from shipway_master.agents.fairshare import decide_fairly
from shipway_master.agents.fitting import Placement, Want, is_possible
from shipway_master.agents.messages import MasterInfo, render_kill, render_options, render_start
from shipway_master.agents.output import TaskOutput
from shipway_master.agents.queue import (
    Decisions,
    Holding,
    Waiting,
    keep_within_limits,
    queue_order,
)
from shipway_master.agents.records import AgentRecords
from shipway_master.agents.schedule import decide
from shipway_master.agents.session import Session
from shipway_master.agents.spec import build_start_order
from shipway_master.agents.views import view_agent, view_pool
from shipway_master.agents.worker import Joined, Worker
from shipway_master.allocations.ids import AgentId, AllocationId, ResourcesId
from shipway_master.background import Background, finish_first
from shipway_master.cluster.config import PoolConfig
from shipway_master.cluster.manager import (
    Assignment,
    Holder,
    Ordering,
    Request,
    Unfulfillable,
)
from shipway_master.tasks.defaults import TaskContainerDefaults
from shipway_master.tasks.launch import Launch
from shipway_proto.determined.agent.v1.agent_pb2 import Agent as AgentMessage
from shipway_proto.determined.resourcepool.v1.resourcepool_pb2 import ResourcePool

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    """A request in the queue or with resources."""

    holder: Holder
    waits: bool


class AgentManager:
    """Places tasks on agents. Entered, it owns the scheduler and one worker per agent."""

    def __init__(
        self,
        config: AgentManagerConfig,
        pools: Sequence[PoolConfig],
        *,
        records: AgentRecords,
        output: TaskOutput,
        info: MasterInfo,
    ) -> None:
        self.records = records
        self.output = output
        self.start_wait_s = config.agent_start_wait
        self._config = config
        self._pools = {pool.pool_name: pool for pool in pools or [PoolConfig(pool_name="default")]}
        self._info = info
        self._agents: dict[AgentId, Agent] = {}
        self._workers: dict[AgentId, Worker] = {}
        self._entries: dict[AllocationId, _Entry] = {}
        self._room_changed = asyncio.Event()
        self._background = Background()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._background)
        for agent in await self.records.load_all():
            if agent.pool in self._pools:
                agent.max_aux = self._pools[agent.pool].max_aux_containers_per_agent
                self._add(agent)
            else:
                log.warning("the pool of an agent is gone", extra={"agent_id": agent.id})
                await self.records.remove(agent)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def begin(self) -> None:
        """Start to place tasks; called when everything that ran before has been restored.

        Only now can agents come back: to restore thousands of tasks may take longer than they may
        stay away.
        """
        for worker in self._workers.values():
            worker.expect_return()
        self._background.start(self._schedule(), name="agent scheduler")

    def hang_up(self) -> None:
        """Close the connections of all agents; what runs on them goes on."""
        for agent in self._agents.values():
            if agent.session is not None:
                agent.session.close()

    # what the cluster asks

    @property
    def name(self) -> str:
        """Tasks in the database refer to it by this."""
        return "agent"

    @property
    def default_pools(self) -> tuple[str | None, str | None]:
        """The pools for tasks that name none: with slots, and without."""
        return self._config.default_compute_resource_pool, self._config.default_aux_resource_pool

    def has_pool(self, pool: str) -> bool:
        """Whether agents may belong to a pool of that name."""
        return pool in self._pools

    def explain_pools(self) -> str:
        """Name the pools."""
        return f"agents have {', '.join(sorted(self._pools))}"

    def list_pools(self) -> list[ResourcePool]:
        """Describe the pools."""
        return [
            view_pool(
                pool,
                self._config,
                [agent for agent in self._agents.values() if agent.pool == pool.pool_name],
                self._get_scheduler(pool.pool_name),
                self._count_queue(pool.pool_name),
            )
            for pool in self._pools.values()
        ]

    def list_agents(self) -> list[AgentMessage]:
        """Describe the agents."""
        return [view_agent(agent) for agent in self._agents.values()]

    def count(self) -> int:
        """How many agents there are, those included that may come back."""
        return len(self._agents)

    def list_problems(self) -> dict[str, dict[int, str]]:
        """Why slots are not fit for use, by agent and slot."""
        found = {
            agent.id: {number: slot.problem for number, slot in agent.slots.items() if slot.problem}
            for agent in self._agents.values()
        }
        return {agent_id: problems for agent_id, problems in found.items() if problems}

    def get_defaults(self, pool: str) -> TaskContainerDefaults:
        """The task container defaults of a pool."""
        return self._pools[pool].task_container_defaults

    def get_default_priority(self, pool: str) -> int:
        """The priority of a task that names none."""
        return self._get_scheduler(pool).default_priority

    def check(self, request: Request) -> bool:
        """Check that the agents of the pool could ever hold the request.

        Raises:
            Unfulfillable: There are agents, but none (or not enough) with so many slots, or these
                must not be used.
        """
        agents = [one for one in self._agents.values() if one.pool == request.pool and one.is_known]
        sizes = [len(one.slots) for one in agents if one.id not in request.excluded_nodes]
        if is_possible(self._get_want(request), sizes):
            return True
        if len(sizes) < len(agents):
            raise Unfulfillable(
                f"the task asks for {request.slots} slots, which the agents of resource pool "
                f"'{request.pool}' do not have without those that its log policies exclude: "
                f"{', '.join(request.excluded_nodes)}"
            )
        if not sizes:
            return False
        if request.is_single_agent:
            raise Unfulfillable(
                f"the task asks for {request.slots} slots on one agent, but the largest agent of "
                f"resource pool '{request.pool}' has {max(sizes)}"
            )
        raise Unfulfillable(
            f"the task asks for {request.slots} slots, but the agents of resource pool "
            f"'{request.pool}' have {', '.join(map(str, sorted(sizes, reverse=True)))}, and a task "
            "over several agents takes whole agents of one size unless the scheduler has "
            "allow_heterogeneous_fits"
        )

    def submit(self, holder: Holder) -> None:
        """Put a request into the queue."""
        self._entries[holder.request.allocation_id] = _Entry(holder, waits=True)
        self.room_changed()

    async def restore(self, holder: Holder, assignments: Sequence[Assignment]) -> bool:
        """Put containers back on their agents; False if one of these is not known any more."""
        request = holder.request
        self._entries[request.allocation_id] = _Entry(holder, waits=False)
        agents = [self._agents.get(one.agent_id or AgentId("")) for one in assignments]
        if not all(agents):
            return False
        for agent, one in zip(agents, assignments, strict=True):
            if agent is not None:
                agent.put_back(
                    PlacedContainer(
                        id=one.resources_id,
                        allocation_id=request.allocation_id,
                        task_id=request.task_id,
                        devices=one.devices,
                        state=one.state,
                    )
                )
        return True

    async def start(
        self, holder: Holder, assignment: Assignment, launch: Launch, *, shares: int
    ) -> None:
        """Order an agent to start a container."""
        del holder
        agent = self._agents.get(assignment.agent_id or AgentId(""))
        if agent is None or assignment.resources_id not in agent.containers:
            return  # the agent was given up meanwhile, which its worker tells
        container = agent.containers[assignment.resources_id]
        container.order = build_start_order(launch, container.id, container.devices, agents=shares)
        if agent.session is not None and agent.is_started:
            agent.session.send(render_start(container.id, container.order))
        self._workers[agent.id].expect_beginning(container)

    async def kill(self, allocation_id: AllocationId, resources_id: ResourcesId) -> None:
        """Order an agent to end a container; one that is away hears of it when it is back."""
        del allocation_id
        for agent in self._agents.values():
            if resources_id in agent.containers and agent.session is not None and agent.is_started:
                agent.session.send(render_kill(resources_id))

    def take_back(self, allocation_id: AllocationId) -> bool:
        """Withdraw a request that waits; False when it has been given resources."""
        entry = self._entries.get(allocation_id)
        if entry is None or not entry.waits:
            return False
        del self._entries[allocation_id]
        return True

    def withdraw(self, allocation_id: AllocationId) -> None:
        """Forget a request; what it had is free again."""
        self._entries.pop(allocation_id, None)
        for agent in self._agents.values():
            for container in list(agent.containers.values()):
                if container.allocation_id == allocation_id:
                    agent.free(container.id)
        self.room_changed()

    def get_ordering(self, pool: str) -> Ordering:
        """By what the waiting requests of the pool are served."""
        is_fair = self._get_scheduler(pool).type == "fair_share"
        return Ordering.FAIR_SHARE if is_fair else Ordering.PRIORITY

    def reorder(self) -> None:
        """Have the scheduler look at priorities and weights again."""
        self.room_changed()

    def get_jobs_ahead(self, allocation_id: AllocationId) -> int:
        """How many waiting requests of the pool come before this one; -1: there is no queue."""
        own = self._entries.get(allocation_id)
        if own is None or not own.waits:
            return 0
        if self.get_ordering(own.holder.request.pool) is Ordering.FAIR_SHARE:
            return -1
        place = queue_order(own.holder.request)
        return sum(
            entry.waits
            and entry.holder.request.pool == own.holder.request.pool
            and queue_order(entry.holder.request) < place
            for entry in self._entries.values()
        )

    # what connections and workers ask

    def find_agent(self, agent_id: AgentId) -> Agent | None:
        """The agent of that id."""
        return self._agents.get(agent_id)

    def add_agent(self, agent_id: AgentId, *, pool: str, address: str, version: str) -> Agent:
        """Make a record of a new agent."""
        agent = Agent(
            id=agent_id,
            pool=pool,
            registered_at=datetime.now(UTC),
            address=address,
            version=version,
            max_aux=self._pools[pool].max_aux_containers_per_agent,
        )
        self._add(agent)
        return agent

    def _add(self, agent: Agent) -> None:
        worker = Worker(agent, self)
        self._agents[agent.id], self._workers[agent.id] = agent, worker
        self._background.start(worker.run(), name=f"agent {agent.id}")

    def join(self, agent: Agent, session: Session, *, address: str, version: str) -> None:
        """Give an agent its connection, and greet it."""
        expected = agent.list_expected()
        agent.session, agent.is_started = session, False
        agent.address, agent.version = address, version
        session.send(render_options(self._info, expected if agent.is_known else None))
        agent.inbox.put(Joined(session, [one.id for one in expected]))

    def remove(self, agent: Agent) -> None:
        """Forget an agent; never one that has taken its place."""
        agent.is_removed = True
        if self._agents.get(agent.id) is agent:
            del self._agents[agent.id], self._workers[agent.id]
        self.room_changed()

    def find_holder(self, allocation_id: AllocationId) -> Holder | None:
        """The allocation of that id, if it lives."""
        entry = self._entries.get(allocation_id)
        return None if entry is None else entry.holder

    def list_holders_on(
        self, agent: Agent, containers: Sequence[ResourcesId] | None = None
    ) -> list[Holder]:
        """The allocations with containers on an agent (or with some of these)."""
        found = {
            container.allocation_id
            for container in agent.containers.values()
            if containers is None or container.id in containers
        }
        holders = [self.find_holder(allocation_id) for allocation_id in found]
        return [holder for holder in holders if holder is not None]

    @property
    def silence_limit_s(self) -> float:
        """How long the connection of an agent may be silent before it is taken for dead."""
        return self._config.agent_silence_limit

    def get_reconnect_wait_s(self, pool: str) -> float:
        """How long a lost agent of the pool is waited for."""
        own = self._pools[pool].agent_reconnect_wait
        return self._config.agent_reconnect_wait if own is None else own

    def room_changed(self) -> None:
        """Have the scheduler look again."""
        self._room_changed.set()

    # the scheduler

    async def _schedule(self) -> None:
        while True:
            await self._room_changed.wait()
            self._room_changed.clear()
            for pool in self._pools:
                try:
                    await finish_first(self._schedule_pool(pool))
                except Exception:
                    log.exception("a scheduling pass failed", extra={"pool": pool})

    async def _schedule_pool(self, pool: str) -> None:
        decisions = self._decide(pool)
        placed = [
            (self._entries[allocation_id], self._place(allocation_id, placement))
            for allocation_id, placement in decisions.start.items()
        ]
        for entry, assignments in placed:
            await self._assign(entry, assignments)
        for allocation_id in decisions.preempt:
            holder = self.find_holder(allocation_id)
            if holder is not None:
                await holder.make_room("preempted by the scheduler")

    async def _assign(self, entry: _Entry, assignments: Sequence[Assignment]) -> None:
        allocation_id = entry.holder.request.allocation_id
        try:
            is_wanted = await entry.holder.assigned(assignments)
        except Exception:  # it costs the others nothing, which have been placed, too
            log.exception("a task was not started", extra={"allocation_id": allocation_id})
            return
        if not is_wanted:
            self.withdraw(allocation_id)

    def _decide(self, pool: str) -> Decisions:
        scheduler = self._get_scheduler(pool)
        entries = [entry for entry in self._entries.values() if entry.holder.request.pool == pool]
        agents = [agent for agent in self._agents.values() if agent.pool == pool]
        rooms = [room for agent in agents if (room := agent.compute_room()) is not None]
        waiting = [self._get_waiting(entry.holder.request) for entry in entries if entry.waits]
        placements = self._list_placements()
        holding = [
            _get_holding(entry.holder, placements.get(entry.holder.request.allocation_id, {}))
            for entry in entries
            if not entry.waits
        ]
        waiting = keep_within_limits(waiting, holding)
        policy = scheduler.fitting_policy
        if scheduler.type == "fair_share":
            return decide_fairly(waiting, holding, rooms, policy=policy)
        return decide(waiting, holding, rooms, policy=policy, may_preempt=scheduler.preemption)

    def _place(self, allocation_id: AllocationId, placement: Placement) -> list[Assignment]:
        entry = self._entries[allocation_id]
        entry.waits = False
        assignments: list[Assignment] = []
        for agent_id, slots in placement.items():
            container = self._agents[agent_id].place(
                ResourcesId(str(uuid4())), allocation_id, entry.holder.request.task_id, slots
            )
            assignments.append(
                Assignment(
                    resources_id=container.id,
                    slots=slots,
                    agent_id=agent_id,
                    devices=container.devices,
                )
            )
        return assignments

    def _list_placements(self) -> dict[AllocationId, dict[AgentId, int]]:
        """Where each allocation has how many slots."""
        placements: dict[AllocationId, dict[AgentId, int]] = {}
        for agent in self._agents.values():
            for container in agent.containers.values():
                its = placements.setdefault(container.allocation_id, {})
                its[agent.id] = len(container.devices)
        return placements

    def _get_scheduler(self, pool: str) -> Scheduler:
        return self._pools[pool].scheduler or self._config.scheduler

    def _count_queue(self, pool: str) -> tuple[int, int]:
        """How many requests of the pool wait, and how many have resources."""
        entries = [e for e in self._entries.values() if e.holder.request.pool == pool]
        waiting = sum(entry.waits for entry in entries)
        return waiting, len(entries) - waiting

    def _get_waiting(self, request: Request) -> Waiting:
        return Waiting(
            allocation_id=request.allocation_id,
            want=self._get_want(request),
            priority=request.priority,
            submitted_at=request.submitted_at,
            is_preemptible=request.is_preemptible,
            group=request.job_id,
            weight=request.weight,
            max_slots=request.max_slots,
        )

    def _get_want(self, request: Request) -> Want:
        return Want(
            key=request.allocation_id,
            slots=request.slots,
            is_single_agent=request.is_single_agent,
            excluded=request.excluded_nodes,
            may_mix_sizes=self._get_scheduler(request.pool).allow_heterogeneous_fits,
        )


def _get_holding(holder: Holder, placement: Placement) -> Holding:
    request = holder.request
    return Holding(
        allocation_id=request.allocation_id,
        placement=placement,
        priority=request.priority,
        submitted_at=request.submitted_at,
        is_preemptible=request.is_preemptible,
        is_leaving=holder.is_leaving,
        group=request.job_id,
        weight=request.weight,
    )
