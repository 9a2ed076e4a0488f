"""Readings of GPUs, CPUs, memory, disks and networks, as they came in."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base


class ProfilerBatchRow(Base):
    """One batch of readings of one series; the id grows in the order of arrival."""

    __tablename__ = "profiler_batches"
    __table_args__ = (
        Index("ix_profiler_batches_trial_id_name_id", "trial_id", "name", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    trial_id: Mapped[int]
    name: Mapped[str] = mapped_column(String)
    agent_id: Mapped[str]
    gpu_uuid: Mapped[str]
    metric_type: Mapped[int]
    batch: Mapped[bytes] = mapped_column(LargeBinary)
    """The serialized `TrialProfilerMetricsBatch`."""
