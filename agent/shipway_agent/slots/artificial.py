"""Slots that are no devices, to try placement and distributed tasks on any machine."""

from __future__ import annotations

import hashlib
import uuid

from shipway_agent.slots.slot import Slot


def make_artificial(*, agent_id: str, number: int) -> list[Slot]:
    """Make *number* slots, the same for each start of the same agent and for no other agent."""
    return [
        Slot(id=index, type="cpu", brand="Artificial", uuid=_identity(agent_id, index))
        for index in range(number)
    ]


def _identity(agent_id: str, index: int) -> str:
    digest = hashlib.sha256(f"shipway artificial slot\0{agent_id}\0{index}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
