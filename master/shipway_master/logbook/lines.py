"""Lines of output, and how the database has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from shipway_master.store.base import microseconds, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line (or a piece of one) of a task's output."""

    task_id: str
    text: str
    """As it was printed, its line end included."""
    timestamp: datetime | None = None
    """None: the time of its arrival."""
    level: int = 0
    """Number of a `LogLevel`; 0 when it has none."""
    allocation_id: str | None = None
    agent_id: str | None = None
    container_id: str | None = None
    rank_id: int | None = None
    stdtype: str | None = None
    source: str | None = None
    end_offset: int | None = None
    """Where it ends in its container's stream, in bytes; tells what came twice."""
    id: int = 0
    """Place in the order of reading; given by the log book."""


@dataclass(slots=True)
class LogFields:
    """The distinct values that the lines of a task have."""

    allocation_ids: set[str] = field(default_factory=set[str])
    agent_ids: set[str] = field(default_factory=set[str])
    container_ids: set[str] = field(default_factory=set[str])
    rank_ids: set[int] = field(default_factory=set[int])
    stdtypes: set[str] = field(default_factory=set[str])
    sources: set[str] = field(default_factory=set[str])

    def count(self) -> int:
        """Count the values; they only ever become more."""
        return sum(len(values) for values in self._sets())

    def add(self, *row: Any) -> None:
        """Add the values of one line, in the order of the fields."""
        for values, value in zip(self._sets(), row, strict=True):
            if value is not None:
                values.add(value)

    def _sets(self) -> tuple[set[Any], ...]:
        return (
            self.allocation_ids,
            self.agent_ids,
            self.container_ids,
            self.rank_ids,
            self.stdtypes,
            self.sources,
        )


def row_of(line: LogLine, now: datetime) -> dict[str, Any]:
    """Build the database's row of *line*, which arrived *now*."""
    return {
        "task_id": line.task_id,
        "allocation_id": line.allocation_id,
        "agent_id": line.agent_id,
        "container_id": line.container_id,
        "rank_id": line.rank_id,
        "timestamp_us": microseconds(line.timestamp or now),
        "level": line.level,
        "stdtype": line.stdtype,
        "source": line.source,
        "end_offset": line.end_offset,
        "log": line.text.encode("utf-8", "surrogatepass"),
    }


def line_of(row: Any) -> LogLine:
    """Build the line of a database row."""
    return LogLine(
        id=row.id,
        task_id=row.task_id,
        allocation_id=row.allocation_id,
        agent_id=row.agent_id,
        container_id=row.container_id,
        rank_id=row.rank_id,
        timestamp=moment(row.timestamp_us),
        level=row.level or 0,
        stdtype=row.stdtype,
        source=row.source,
        text=row.log.decode("utf-8", "replace"),
    )
