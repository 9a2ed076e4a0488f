"""What trials report of themselves: metrics step by step, and what they were made from."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class TrialMetricRow(Base):
    """All that one run of a trial reported in one group at one step; ids grow with arrival.

    Of those without a step, as readings of hardware are, each report is a row of its own.
    """

    __tablename__ = "trial_metrics"
    __table_args__ = (
        Index("ix_trial_metrics_step", "trial_id", "group", "steps", "run", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    group: Mapped[str]
    """`training`, `validation`, that of a profiler, or the user's own word."""
    steps: Mapped[int | None]
    run: Mapped[int]
    reported_at: Mapped[datetime] = mapped_column(UtcTime)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Numbers that JSON lacks are the texts NaN, Infinity and -Infinity."""
    batch_metrics: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    archived: Mapped[bool] = mapped_column(default=False)
    """A newer run of the trial has gone over this step again."""


class TrialSourceRow(Base):
    """That a trial uses a checkpoint, maybe one that is a version of a registered model."""

    __tablename__ = "trial_sources"

    trial_id: Mapped[int] = mapped_column(
        ForeignKey("trials.id", ondelete="CASCADE"), primary_key=True
    )
    checkpoint_uuid: Mapped[str] = mapped_column(String, primary_key=True, index=True)
    kind: Mapped[str]
    """As the API calls it, without its prefix."""
    model_id: Mapped[int | None]
    model_version: Mapped[int | None]
