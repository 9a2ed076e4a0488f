"""Facts about the cluster as a whole."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base


class ClusterRow(Base):
    """The only row of its table: who this cluster is."""

    __tablename__ = "cluster"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cluster_id: Mapped[str] = mapped_column(String(36))
