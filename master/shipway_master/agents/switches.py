"""Enabling, disabling and draining of agents and slots by people."""

from __future__ import annotations

from shipway_master.agents.agent import Agent, Slot
from shipway_master.agents.manager import AgentManager
from shipway_master.allocations.ids import AgentId


class AgentNotFound(Exception):
    """There is no such agent."""


class SlotNotFound(Exception):
    """The agent has no such slot."""


class AgentNotReady(Exception):
    """The agent has connected, but not yet said what it has."""


class Switches:
    """The switches; what is switched is kept in the database at once."""

    def __init__(self, manager: AgentManager) -> None:
        self._manager = manager

    async def enable_agent(self, agent_id: AgentId) -> Agent:
        """Let tasks start on the agent, and on all of its slots.

        Raises:
            AgentNotFound, AgentNotReady: See there.
        """
        agent = self._find(agent_id)
        agent.enabled, agent.draining = True, False
        for slot in agent.slots.values():
            slot.enabled, slot.draining = True, False
        await self._keep(agent)
        return agent

    async def disable_agent(self, agent_id: AgentId, *, drain: bool) -> Agent:
        """Let nothing start on the agent any more; what runs may end by itself with *drain*.

        Raises:
            AgentNotFound, AgentNotReady: See there.
        """
        agent = self._find(agent_id)
        agent.enabled, agent.draining = False, drain
        for slot in agent.slots.values():
            slot.enabled, slot.draining = False, drain
        await self._keep(agent)
        if not drain:
            for holder in self._manager.list_holders_on(agent):
                await holder.kill("agent disabled")
        return agent

    async def enable_slot(self, agent_id: AgentId, slot_id: int) -> Slot:
        """Let tasks start on the slot.

        Raises:
            AgentNotFound, SlotNotFound, AgentNotReady: See there.
        """
        agent, slot = self._find_slot(agent_id, slot_id)
        slot.enabled, slot.draining = True, False
        await self._keep(agent)
        return slot

    async def disable_slot(self, agent_id: AgentId, slot_id: int, *, drain: bool) -> Slot:
        """Let nothing start on the slot any more; what runs may end by itself with *drain*.

        Raises:
            AgentNotFound, SlotNotFound, AgentNotReady: See there.
        """
        agent, slot = self._find_slot(agent_id, slot_id)
        slot.enabled, slot.draining = False, drain
        await self._keep(agent)
        if not drain and slot.container_id is not None:
            for holder in self._manager.list_holders_on(agent, [slot.container_id]):
                await holder.kill("slot disabled")
        return slot

    def get_slot(self, agent_id: AgentId, slot_id: int) -> Slot:
        """The slot as it is; looking changes nothing.

        Raises:
            AgentNotFound, SlotNotFound, AgentNotReady: See there.
        """
        return self._find_slot(agent_id, slot_id)[1]

    async def _keep(self, agent: Agent) -> None:
        self._manager.room_changed()
        await self._manager.records.save(agent)

    def _find(self, agent_id: AgentId) -> Agent:
        agent = self._manager.find_agent(agent_id)
        if agent is None:
            raise AgentNotFound(agent_id)
        if not agent.is_known:
            raise AgentNotReady(agent_id)
        return agent

    def _find_slot(self, agent_id: AgentId, slot_id: int) -> tuple[Agent, Slot]:
        agent = self._find(agent_id)
        if slot_id not in agent.slots:
            raise SlotNotFound(f"{agent_id}/{slot_id}")
        return agent, agent.slots[slot_id]
