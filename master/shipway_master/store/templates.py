"""Templates of configurations."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base


class TemplateRow(Base):
    """A part of a configuration under a name."""

    __tablename__ = "templates"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspaces.id"), index=True)
    config: Mapped[str]
    """JSON."""
