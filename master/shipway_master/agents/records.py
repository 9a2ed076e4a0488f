"""Agents in the database."""

from __future__ import annotations

from sqlalchemy import delete, select

from shipway_master.agents.agent import Agent, Slot
from shipway_master.agents.devices import dump_device, read_devices
from shipway_master.allocations.ids import AgentId
from shipway_master.store.agents import AgentRow
from shipway_master.store.database import Database


class AgentRecords:
    """Reads and writes agents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, agent: Agent) -> None:
        """Store what people decided about an agent, and what it has."""
        row = AgentRow(
            agent_id=agent.id,
            resource_pool=agent.pool,
            registered_at=agent.registered_at,
            address=agent.address,
            version=agent.version,
            enabled=agent.enabled,
            draining=agent.draining,
            slots=[
                {
                    "device": dump_device(slot.device),
                    "enabled": slot.enabled,
                    "draining": slot.draining,
                }
                for slot in agent.slots.values()
            ],
        )
        async with self._database.writing() as session:
            await session.merge(row)

    async def remove(self, agent: Agent) -> None:
        """Forget an agent that will not come back; never one that has registered anew meanwhile."""
        is_it = AgentRow.agent_id == agent.id, AgentRow.registered_at == agent.registered_at
        async with self._database.writing() as session:
            await session.execute(delete(AgentRow).where(*is_it))

    async def load_all(self) -> list[Agent]:
        """Load the agents that were known when the master stopped."""
        async with self._database.reading() as session:
            rows = (await session.scalars(select(AgentRow))).all()
        return [_make_agent(row) for row in rows]


def _make_agent(row: AgentRow) -> Agent:
    slots = [
        Slot(
            device=read_devices([slot["device"]])[0],
            enabled=slot["enabled"],
            draining=slot["draining"],
        )
        for slot in row.slots
    ]
    return Agent(
        id=AgentId(row.agent_id),
        pool=row.resource_pool,
        registered_at=row.registered_at,
        address=row.address,
        version=row.version,
        max_aux=0,  # the settings have it
        enabled=row.enabled,
        draining=row.draining,
        slots={slot.device.id: slot for slot in slots},
        is_known=True,
    )
