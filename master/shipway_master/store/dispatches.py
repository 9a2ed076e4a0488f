"""Jobs that were handed to a launcher."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base


class DispatchRow(Base):
    """A dispatch from before its launch until the launcher has removed its files."""

    __tablename__ = "dispatches"

    dispatch_id: Mapped[str] = mapped_column(String, primary_key=True)
    """The allocation's id."""
    manager: Mapped[str]
    resources_id: Mapped[str]
    resource_pool: Mapped[str]
    owner: Mapped[str]
    """Under whose name the launcher knows it; empty until it has told us."""
    payload: Mapped[str]
    phase: Mapped[str]
    """LAUNCHING, WATCHED or OVER (only its files are left to be removed)."""
    job_id: Mapped[str | None]
    """Slurm's, once the task's log has been told."""
    reason: Mapped[str | None]
    """Why it waits, as the task's log was last told."""
