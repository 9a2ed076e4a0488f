"""Policies of workspaces and of the cluster."""

from __future__ import annotations

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base

EVERYWHERE = 0
"""In the place of a workspace's id: the whole cluster."""


class PolicyRow(Base):
    """What is fixed or limited for all workloads of a kind."""

    __tablename__ = "config_policies"

    workspace_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """No foreign key, for there is no workspace 0."""
    workload: Mapped[str] = mapped_column(String, primary_key=True)
    """EXPERIMENT or NTSC."""
    invariant_config: Mapped[str] = mapped_column(Text)
    """JSON, secrets included."""
    constraints: Mapped[str] = mapped_column(Text)
    """JSON."""
