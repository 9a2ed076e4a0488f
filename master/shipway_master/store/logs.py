"""The output of tasks, line by line."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base


class TaskLogRow(Base):
    """One line. The id grows in the order of arrival, which is the order of reading."""

    __tablename__ = "task_logs"
    __table_args__ = (
        Index("ix_task_logs_task_id_id", "task_id", "id"),
        {"sqlite_autoincrement": True},  # an id is never given twice, so a reader can go on from it
    )

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    task_id: Mapped[str] = mapped_column(String)
    allocation_id: Mapped[str | None]
    agent_id: Mapped[str | None]
    container_id: Mapped[str | None]
    rank_id: Mapped[int | None]
    timestamp_us: Mapped[int | None] = mapped_column(BigInteger)
    level: Mapped[int | None]
    stdtype: Mapped[str | None]
    source: Mapped[str | None]
    end_offset: Mapped[int | None] = mapped_column(BigInteger)
    """Where the line ends in the output of its container, if its sender counts."""
    log: Mapped[bytes] = mapped_column(LargeBinary)
    """UTF-8. Not text: a database's text type may refuse NUL bytes, which tasks do print."""
