"""Webhooks, and what is still to be sent to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class WebhookRow(Base):
    """An address that is called when something happens."""

    __tablename__ = "webhooks"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str] = mapped_column(String, unique=True)
    url: Mapped[str] = mapped_column(Text)
    kind: Mapped[str]
    """As the API calls its type, without the prefix."""
    mode: Mapped[str]
    workspace_id: Mapped[int | None] = mapped_column(
        ForeignKey("workspaces.id", ondelete="CASCADE"), index=True
    )
    """None: for the whole cluster."""


class WebhookTriggerRow(Base):
    """Something that a webhook waits for."""

    __tablename__ = "webhook_triggers"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    webhook_id: Mapped[int] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[str]
    condition: Mapped[dict[str, Any]] = mapped_column(JSON)


class DeliveryRow(Base):
    """A call of a webhook that is still to be made."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    webhook_id: Mapped[int] = mapped_column(
        ForeignKey("webhooks.id", ondelete="CASCADE"), index=True
    )
    body: Mapped[str] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime] = mapped_column(UtcTime, index=True)
