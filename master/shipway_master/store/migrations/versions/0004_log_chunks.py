"""Task logs as chunks of many lines; the lines that are there are put into such."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

from shipway_master.logbook.chunks import columns_of, pack
from shipway_master.logbook.lines import LogLine

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None

_LINES = sa.table(
    "task_logs",
    *(
        sa.column(name, sa.types.NullType())
        for name in (
            "id",
            "task_id",
            "log",
            "timestamp_us",
            "level",
            "allocation_id",
            "agent_id",
            "container_id",
            "rank_id",
            "stdtype",
            "source",
            "end_offset",
        )
    ),
)
_AT_ONCE = 2048


def upgrade() -> None:
    """Create the tables and move the lines over, some thousand in memory at a time."""
    chunks = op.create_table(
        "log_chunks",
        sa.Column("task_id", sa.String),
        sa.Column("last_id", sa.BigInteger, autoincrement=False),
        sa.Column("first_id", sa.BigInteger, nullable=False),
        sa.Column("oldest_us", sa.BigInteger, nullable=False),
        sa.Column("newest_us", sa.BigInteger, nullable=False),
        sa.Column("block", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "last_id", name="pk_log_chunks"),
    )
    streams = op.create_table(
        "log_streams",
        sa.Column("task_id", sa.String),
        sa.Column("container_id", sa.String),
        sa.Column("stdtype", sa.String),
        sa.Column("end_offset", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("task_id", "container_id", "stdtype", name="pk_log_streams"),
    )
    connection = op.get_bind()
    last_ids: dict[str, int] = {}
    for page in _pages(connection):
        for task_id, rows in groupby(page, key=lambda row: row.task_id):
            lines = [_line(row) for row in rows]
            columns = columns_of(lines, 0)
            first_id = last_ids.get(task_id, 0) + 1
            last_ids[task_id] = first_id + len(lines) - 1
            connection.execute(
                chunks.insert().values(
                    task_id=task_id,
                    first_id=first_id,
                    last_id=last_ids[task_id],
                    oldest_us=min(columns.times_us),
                    newest_us=max(columns.times_us),
                    block=pack(columns),
                )
            )
    connection.execute(_ends(streams))
    op.drop_table("task_logs")


def _pages(connection: sa.Connection) -> Iterator[list[Any]]:
    """Iterate over all lines, task by task in their order."""
    after: tuple[str, int] = ("", 0)
    while True:
        columns = _LINES.c
        is_next = sa.or_(
            columns.task_id > after[0],
            sa.and_(columns.task_id == after[0], columns.id > after[1]),
        )
        order = columns.task_id, columns.id
        page = connection.execute(
            sa.select(_LINES).where(is_next).order_by(*order).limit(_AT_ONCE)
        ).all()
        if not page:
            return
        yield list(page)
        after = (page[-1].task_id, page[-1].id)


def _line(row: Any) -> LogLine:
    return LogLine(
        task_id=row.task_id,
        text=row.log.decode("utf-8", "replace"),
        timestamp_us=row.timestamp_us,
        level=row.level or 0,
        allocation_id=row.allocation_id,
        agent_id=row.agent_id,
        container_id=row.container_id,
        rank_id=row.rank_id,
        stdtype=row.stdtype,
        source=row.source,
    )


def _ends(streams: sa.Table) -> sa.Insert:
    columns = _LINES.c
    stream = columns.task_id, columns.container_id, columns.stdtype
    ends = (
        sa.select(*stream, sa.func.max(columns.end_offset))
        .where(
            columns.end_offset.is_not(None),
            columns.container_id.is_not(None),
            columns.stdtype.is_not(None),
        )
        .group_by(*stream)
    )
    return streams.insert().from_select(["task_id", "container_id", "stdtype", "end_offset"], ends)
