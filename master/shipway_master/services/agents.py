"""Agents and their slots."""

from __future__ import annotations

from shipway_master.agents.agent import Slot
from shipway_master.agents.manager import AgentManager
from shipway_master.agents.switches import Switches
from shipway_master.agents.views import view_agent, view_slot
from shipway_master.allocations.ids import AgentId
from shipway_master.cluster.cluster import Cluster
from shipway_master.errors import FailedPrecondition, InvalidArgument, NotFound
from shipway_master.pages import cut_page
from shipway_master.rpc import Call
from shipway_master.services.told import told
from shipway_proto.determined.agent.v1 import agent_pb2
from shipway_proto.determined.api.v1 import agent_pb2 as api
from shipway_proto.determined.api.v1.pagination_pb2 import ORDER_BY_DESC


class AgentService:
    """The RPCs of agents and slots; the nodes of Slurm are agents that can only be looked at."""

    def __init__(self, cluster: Cluster, manager: AgentManager) -> None:
        self._cluster = cluster
        self._manager = manager
        self._switches = Switches(manager)

    async def GetAgents(self, request: api.GetAgentsRequest, call: Call) -> api.GetAgentsResponse:
        """List agents and nodes."""
        agents = self._cluster.list_agents()
        if request.sort_by == api.GetAgentsRequest.SORT_BY_TIME:
            agents.sort(key=lambda agent: (agent.registered_time.ToNanoseconds(), agent.id))
        else:
            agents.sort(key=lambda agent: agent.id)
        if request.order_by == ORDER_BY_DESC:
            agents.reverse()
        page, pagination = cut_page(agents, offset=request.offset, limit=request.limit)
        for agent in page:
            if request.exclude_slots:
                agent.ClearField("slots")
            if request.exclude_containers:
                agent.ClearField("containers")
                for slot in agent.slots.values():
                    slot.ClearField("container")
        return api.GetAgentsResponse(agents=page, pagination=pagination)

    async def GetAgent(self, request: api.GetAgentRequest, call: Call) -> api.GetAgentResponse:
        """Find one agent or node."""
        return api.GetAgentResponse(agent=self._find(request.agent_id))

    async def GetSlots(self, request: api.GetSlotsRequest, call: Call) -> api.GetSlotsResponse:
        """List the slots of an agent."""
        slots = sorted(self._find(request.agent_id).slots.values(), key=lambda slot: slot.id)
        return api.GetSlotsResponse(slots=slots)

    async def GetSlot(self, request: api.GetSlotRequest, call: Call) -> api.GetSlotResponse:
        """Find one slot of an agent."""
        agent, slot_id = self._find(request.agent_id), _read_slot_id(request.slot_id)
        for slot in agent.slots.values():
            if slot.id == str(slot_id):
                return api.GetSlotResponse(slot=slot)
        raise NotFound("slot", f"{request.agent_id}/{slot_id}")

    async def EnableAgent(
        self, request: api.EnableAgentRequest, call: Call
    ) -> api.EnableAgentResponse:
        """Let tasks start on an agent."""
        self._require_control(call, request.agent_id)
        with told():
            agent = await self._switches.enable_agent(AgentId(request.agent_id))
        return api.EnableAgentResponse(agent=view_agent(agent))

    async def DisableAgent(
        self, request: api.DisableAgentRequest, call: Call
    ) -> api.DisableAgentResponse:
        """Let nothing start on an agent; what runs is ended, or with `drain` left to end."""
        self._require_control(call, request.agent_id)
        with told():
            agent = await self._switches.disable_agent(
                AgentId(request.agent_id), drain=request.drain
            )
        return api.DisableAgentResponse(agent=view_agent(agent))

    async def EnableSlot(
        self, request: api.EnableSlotRequest, call: Call
    ) -> api.EnableSlotResponse:
        """Let tasks start on a slot."""
        self._require_control(call, request.agent_id)
        agent_id, slot_id = AgentId(request.agent_id), _read_slot_id(request.slot_id)
        with told():
            slot = await self._switches.enable_slot(agent_id, slot_id)
        return api.EnableSlotResponse(slot=self._view_slot(agent_id, slot))

    async def DisableSlot(
        self, request: api.DisableSlotRequest, call: Call
    ) -> api.DisableSlotResponse:
        """Let nothing start on a slot; what runs is ended, or with `drain` left to end."""
        self._require_control(call, request.agent_id)
        agent_id, slot_id = AgentId(request.agent_id), _read_slot_id(request.slot_id)
        with told():
            slot = await self._switches.disable_slot(agent_id, slot_id, drain=request.drain)
        return api.DisableSlotResponse(slot=self._view_slot(agent_id, slot))

    def _find(self, agent_id: str) -> agent_pb2.Agent:
        for agent in self._cluster.list_agents():
            if agent.id == agent_id:
                return agent
        raise NotFound("agent", agent_id)

    def _view_slot(self, agent_id: AgentId, slot: Slot) -> agent_pb2.Slot:
        agent = self._manager.find_agent(agent_id)
        if agent is None:
            raise NotFound("agent", agent_id)
        return view_slot(slot, agent)

    def _require_control(self, call: Call, agent_id: str) -> None:
        call.principal.require_admin()
        if self._manager.find_agent(AgentId(agent_id)) is not None:
            return
        if any(agent.id == agent_id for agent in self._cluster.list_agents()):
            raise FailedPrecondition(
                f"node '{agent_id}' belongs to Slurm; use scontrol update nodename={agent_id}"
            )


def _read_slot_id(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidArgument(f"invalid slot id: {text}")
    return int(text)
