"""What TensorBoards show."""

from __future__ import annotations

from sqlalchemy import JSON, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base


class TensorboardRow(Base):
    """What a task of the type TENSORBOARD shows."""

    __tablename__ = "tensorboards"

    task_id: Mapped[str] = mapped_column(String, primary_key=True)
    """No reference: this is stored before the task."""
    experiment_ids: Mapped[list[int]] = mapped_column(JSON)
    trial_ids: Mapped[list[int]] = mapped_column(JSON)
    folders: Mapped[dict[str, str]] = mapped_column(JSON)
    storage: Mapped[str] = mapped_column(Text)
    """JSON, secrets included."""
