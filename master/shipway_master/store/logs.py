"""The output of tasks, many lines in one row."""

from __future__ import annotations

from sqlalchemy import BigInteger, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from shipway_master.store.base import Base


class LogChunkRow(Base):
    """Lines of a task that follow each other, numbered from 1 in each task.

    A chunk may be put together with its neighbours; a line keeps its number.
    """

    __tablename__ = "log_chunks"

    task_id: Mapped[str] = mapped_column(String, primary_key=True)
    last_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Number of its last line."""
    first_id: Mapped[int] = mapped_column(BigInteger)
    oldest_us: Mapped[int] = mapped_column(BigInteger)
    newest_us: Mapped[int] = mapped_column(BigInteger)
    block: Mapped[bytes] = mapped_column(LargeBinary)
    """The lines, as `shipway_master.logbook.chunks` packs them."""


class LogStreamRow(Base):
    """How far the output of a container is stored, where its sender counts bytes."""

    __tablename__ = "log_streams"

    task_id: Mapped[str] = mapped_column(String, primary_key=True)
    container_id: Mapped[str] = mapped_column(String, primary_key=True)
    stdtype: Mapped[str] = mapped_column(String, primary_key=True)
    end_offset: Mapped[int] = mapped_column(BigInteger)
