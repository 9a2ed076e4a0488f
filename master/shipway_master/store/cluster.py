"""Facts about the cluster as a whole."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class ClusterRow(Base):
    """The only row of its table: who this cluster is."""

    __tablename__ = "cluster"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cluster_id: Mapped[str] = mapped_column(String(36))


class ClusterMessageRow(Base):
    """What administrators tell all users; at most one row."""

    __tablename__ = "cluster_message"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    message: Mapped[str]
    starts_at: Mapped[datetime] = mapped_column(UtcTime)
    ends_at: Mapped[datetime | None] = mapped_column(UtcTime)
    created_at: Mapped[datetime] = mapped_column(UtcTime)
