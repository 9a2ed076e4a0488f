"""Workspaces, the projects in them, and what they say about the tasks of both."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class WorkspaceRow(Base):
    """A place for projects, commands and templates."""

    __tablename__ = "workspaces"
    __table_args__ = (Index("ix_workspaces_folded_name", "folded_name", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String, unique=True)
    folded_name: Mapped[str]
    """The name without its case: there is no second one that differs in that alone."""
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    archived: Mapped[bool] = mapped_column(default=False)
    immutable: Mapped[bool] = mapped_column(default=False)
    deletion: Mapped[str] = mapped_column(default="")
    """Empty in ordinary life; else as the API calls its state, without its prefix."""
    error_message: Mapped[str] = mapped_column(Text, default="")
    agent_uid: Mapped[int | None]
    agent_gid: Mapped[int | None]
    agent_user: Mapped[str | None]
    agent_group: Mapped[str | None]
    checkpoint_storage: Mapped[str | None] = mapped_column(Text)
    """JSON, secrets included."""
    default_compute_pool: Mapped[str] = mapped_column(default="")
    default_aux_pool: Mapped[str] = mapped_column(default="")


class ProjectRow(Base):
    """A place for experiments."""

    __tablename__ = "projects"
    __table_args__ = (
        Index("ix_projects_folded_name", "workspace_id", "folded_name", unique=True),
        Index("ix_projects_key", "key", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    workspace_id: Mapped[int] = mapped_column(ForeignKey("workspaces.id"), index=True)
    name: Mapped[str]
    folded_name: Mapped[str]
    """As that of a workspace; it is the only one in its workspace."""
    key: Mapped[str]
    """Short name in capital letters and digits, the only one in the cluster."""
    description: Mapped[str] = mapped_column(Text, default="")
    notes: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    archived: Mapped[bool] = mapped_column(default=False)
    immutable: Mapped[bool] = mapped_column(default=False)
    deletion: Mapped[str] = mapped_column(default="")
    """As that of a workspace."""
    error_message: Mapped[str] = mapped_column(Text, default="")


class WorkspacePinRow(Base):
    """A workspace that a user wants to have at hand."""

    __tablename__ = "workspace_pins"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    workspace_id: Mapped[int] = mapped_column(
        ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True
    )
    pinned_at: Mapped[datetime] = mapped_column(UtcTime)


class PoolBindingRow(Base):
    """A workspace that may use a pool; a pool without such rows is for all."""

    __tablename__ = "pool_bindings"

    pool: Mapped[str] = mapped_column(String, primary_key=True)
    workspace_id: Mapped[int] = mapped_column(
        ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True
    )


class ProjectVisitRow(Base):
    """When a user last looked at a project."""

    __tablename__ = "project_visits"

    user_id: Mapped[int] = mapped_column(
        ForeignKey("users.id", ondelete="CASCADE"), primary_key=True
    )
    project_id: Mapped[int] = mapped_column(
        ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True
    )
    visited_at: Mapped[datetime] = mapped_column(UtcTime)
