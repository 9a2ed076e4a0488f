"""Lines of output as the book takes and gives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Origin(NamedTuple):
    """What many lines have in common: where they come from, and how severe they are."""

    level: int
    allocation_id: str | None
    agent_id: str | None
    container_id: str | None
    rank_id: int | None
    stdtype: str | None
    source: str | None


class LogLine(NamedTuple):
    """One line (or a piece of one) of a task's output.

    A tuple, whose middle is an `Origin`: lines come by the million, and this way their columns are
    taken apart and put together outside of the interpreter.
    """

    task_id: str
    text: str
    """As it was printed, its line end included."""
    timestamp_us: int | None = None
    """Microseconds since 1970; None: the time of its arrival."""
    level: int = 0
    """Number of a `LogLevel`; 0 when it has none."""
    allocation_id: str | None = None
    agent_id: str | None = None
    container_id: str | None = None
    rank_id: int | None = None
    stdtype: str | None = None
    source: str | None = None
    end_offset: int | None = None
    """Where it ends in its container's stream, in bytes; tells what came twice. Not given back."""
    id: int = 0
    """Place in the order of reading, from 1 in each task; given by the log book."""


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

    def add(self, origins: Iterable[Origin]) -> None:
        """Add the values of lines that come from *origins*."""
        for origin in origins:
            for values, value in zip(self._sets(), origin[1:], strict=True):
                if value is not None:
                    values.add(value)

    def _sets(self) -> Sequence[set[Any]]:
        return (
            self.allocation_ids,
            self.agent_ids,
            self.container_ids,
            self.rank_ids,
            self.stdtypes,
            self.sources,
        )
