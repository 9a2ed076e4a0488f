"""Keep a waiting job's reason from changing back and forth in its task's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from shipway_launcher.slurm.reasons import split_reason
from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.slurm.states import Phase

_STEADY_S = 30.0


@dataclass(slots=True)
class _Seen:
    shown: str
    told: set[str]
    """Words that have been shown before."""
    next: str
    since: float


class ReasonDamper:
    """Shows a new reason at once, but one that has been shown before only when it stays.

    The master writes a line for each change, and Slurm goes back and forth between `Priority` and
    `Resources` for jobs that wait long.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no job."""
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def damp(self, rows: Sequence[JobRow]) -> list[JobRow]:
        """Return all jobs, the waiting ones with the reason to show."""
        now_s = self._clock()
        before, self._seen = self._seen, {}
        damped: list[JobRow] = []
        for row in rows:
            if row.state.phase is Phase.WAITING:
                seen = self._seen[row.shown_id] = _look(before.get(row.shown_id), row, now_s)
                row = replace(row, reason=seen.shown)
            damped.append(row)
        return damped


def _look(seen: _Seen | None, row: JobRow, now_s: float) -> _Seen:
    word = split_reason(row.reason)[0]
    if seen is None:
        return _Seen(shown=row.reason, told={word}, next=word, since=now_s)
    if word != seen.next:
        seen.next, seen.since = word, now_s
    is_shown = split_reason(seen.shown)[0] == word
    if is_shown or word not in seen.told or now_s - seen.since >= _STEADY_S:
        seen.shown = row.reason
        seen.told.add(word)
    return seen
