"""Node agents: who they are, and what people decided about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class AgentRow(Base):
    """An agent that is connected, or may still come back."""

    __tablename__ = "agents"

    agent_id: Mapped[str] = mapped_column(String, primary_key=True)
    resource_pool: Mapped[str]
    registered_at: Mapped[datetime] = mapped_column(UtcTime)
    address: Mapped[str]
    version: Mapped[str]
    enabled: Mapped[bool]
    draining: Mapped[bool]
    slots: Mapped[list[Any]] = mapped_column(JSON)
    """Objects `device`, `enabled`, `draining`."""
