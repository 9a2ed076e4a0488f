"""Which lines somebody wants to read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress

from shipway_master.logbook.chunks import Columns
from shipway_master.logbook.lines import LogLine, Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines are wanted; an empty list does not filter."""

    task_id: str
    allocation_ids: Collection[str] = ()
    agent_ids: Collection[str] = ()
    container_ids: Collection[str] = ()
    rank_ids: Collection[int] = ()
    levels: Collection[int] = ()
    stdtypes: Collection[str] = ()
    sources: Collection[str] = ()
    before_us: int | None = None
    """Microseconds since 1970; lines of that very moment are not wanted, nor below."""
    after_us: int | None = None
    has_text: Callable[[str], object] | None = None
    """Says of a line's text by a true value that it is wanted."""
    newest_first: bool = False

    def wants_from(self, origin: Origin) -> bool:
        """Tell whether lines of *origin* may be wanted."""
        wanted = (
            self.levels,
            self.allocation_ids,
            self.agent_ids,
            self.container_ids,
            self.rank_ids,
            self.stdtypes,
            self.sources,
        )
        return all(
            not values or value in values for values, value in zip(wanted, origin, strict=True)
        )

    def select(self, columns: Columns, first_id: int, *, after: int, until: int) -> list[LogLine]:
        """Pick the wanted ones of a chunk's lines with ids in (after, until], in their order.

        Args:
            first_id: The id of the chunk's first line.
        """
        wanted = [self.wants_from(origin) for origin in columns.origins]
        if not any(wanted):
            return []
        start, end = max(after + 1 - first_id, 0), min(until + 1 - first_id, len(columns.texts))
        columns = columns.piece(start, end)
        ids: Iterable[int] = range(first_id + start, first_id + end)

        def keep(flags: Sequence[object]) -> None:
            nonlocal columns, ids
            columns, ids = columns.picked(flags), list(compress(ids, flags))

        if not all(wanted):
            keep([wanted[number] for number in columns.origin_numbers])
        if (before_us := self.before_us) is not None:
            keep([time_us < before_us for time_us in columns.times_us])
        if (after_us := self.after_us) is not None:
            keep([time_us > after_us for time_us in columns.times_us])
        if self.has_text is not None:
            keep(list(map(self.has_text, columns.texts)))
        lines = columns.lines(self.task_id, ids)
        return lines[::-1] if self.newest_first else lines
