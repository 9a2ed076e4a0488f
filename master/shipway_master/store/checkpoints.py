"""Checkpoints: what trials left in checkpoint storage, and where such storage is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base, UtcTime


class StorageRow(Base):
    """A checkpoint storage that some trial said it writes to.

    Equal ones of one user are kept once; another user's are apart, as they hold his secrets.
    """

    __tablename__ = "storages"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the owner and the configuration, by which an equal one is found."""
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    config: Mapped[str] = mapped_column(Text)
    """JSON with sorted keys, secrets included."""


class CheckpointRow(Base):
    """The record of one checkpoint; a higher id was reported later."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        Index("ix_checkpoints_trial_state", "trial_id", "state"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    uuid: Mapped[str] = mapped_column(String(36), unique=True)
    """Also the name of its folder in storage; lower case."""
    task_id: Mapped[str]
    allocation_id: Mapped[str | None]
    trial_id: Mapped[int] = mapped_column(ForeignKey("trials.id", ondelete="CASCADE"))
    state: Mapped[str]
    """As the API calls it, without its prefix."""
    reported_at: Mapped[datetime] = mapped_column(UtcTime)
    resources: Mapped[dict[str, int]] = mapped_column(JSON)
    """Path to size in bytes of each file; folders end with a slash."""
    meta: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The writer's own data."""
    steps_completed: Mapped[int] = mapped_column(BigInteger)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    storage_id: Mapped[int | None] = mapped_column(ForeignKey("storages.id"))
    """Unset: where the configuration of its experiment says."""


class CollectionRow(Base):
    """What a task of the type CHECKPOINT_GC is to remove."""

    __tablename__ = "collections"

    task_id: Mapped[str] = mapped_column(String, primary_key=True)
    """No reference: this is stored before the task, and goes when that has ended."""
    experiment_id: Mapped[int]
    storage: Mapped[str] = mapped_column(Text)
    """JSON, secrets included."""
    uuids: Mapped[list[str]] = mapped_column(JSON)
    globs: Mapped[list[str]] = mapped_column(JSON)
    with_tensorboards: Mapped[bool] = mapped_column(default=False)
    """Whether the TensorBoard files of the experiment go, too."""
