"""Looks for what log policies describe in the logs of trials, as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from shipway_master.errors import InvalidArgument
from shipway_master.logbook.lines import LogLine
from shipway_master.logbook.search import pattern_search
from shipway_master.tasks.logpolicy import LogPolicy

OnMatch = Callable[[str, LogPolicy, LogLine], None]
"""Is told of a task, the policy, and the first line of its run (and node) that matched."""

_CONFIGURATION = '"log_policies": ['
"""The harness prints the whole configuration, the patterns included, when it begins."""

_task_id = attrgetter("task_id")
_ANCHORS = ("\\A", "\\z")
"""Mean the ends of a line, and would mean those of many lines at once."""


@dataclass(slots=True)
class _Watched:
    """The policies of one task."""

    policies: Sequence[tuple[LogPolicy, Callable[[str], object]]]
    may_match: Callable[[str], object] | None
    """Says of many lines at once by a false value that none of them matches."""
    seen: set[tuple[int, str | None]] = field(default_factory=set[tuple[int, "str | None"]])


class LogWatch:
    """Knows which tasks have policies; costs the logs of all others nothing."""

    def __init__(self, on_match: OnMatch) -> None:
        self._on_match = on_match
        self._watched: dict[str, _Watched] = {}

    def watch(self, task_id: str, policies: Sequence[LogPolicy]) -> None:
        """Begin to look at the log of a new run of a task."""
        active = [one for one in policies if one.pattern is not None]
        if not active:
            self.forget(task_id)
            return
        patterns = [one.pattern or "" for one in active]
        has_anchor = any(anchor in pattern for pattern in patterns for anchor in _ANCHORS)
        any_of_them = "|".join(f"(?:{pattern})" for pattern in patterns)
        self._watched[task_id] = _Watched(
            policies=[(one, pattern_search(one.pattern or "")) for one in active],
            may_match=None if has_anchor else _try_pattern(f"(?m){any_of_them}"),
        )

    def forget(self, task_id: str) -> None:
        """Look at the log of a task no more."""
        self._watched.pop(task_id, None)

    def see(self, lines: Sequence[LogLine]) -> None:
        """Look at lines that have been stored."""
        if not self._watched:
            return
        for task_id, of_task in groupby(lines, key=_task_id):
            watched = self._watched.get(task_id)
            if watched is not None:
                for policy, line in _find(watched, list(of_task)):
                    self._on_match(task_id, policy, line)


def _find(watched: _Watched, lines: Sequence[LogLine]) -> Iterator[tuple[LogPolicy, LogLine]]:
    if watched.may_match is not None and not watched.may_match("".join(one.text for one in lines)):
        return
    for line in lines:
        if line.source == "master" or _CONFIGURATION in line.text:
            continue
        text = line.text.rstrip("\r\n")
        for number, (policy, matches) in enumerate(watched.policies):
            key = number, line.agent_id
            if key not in watched.seen and matches(text):
                watched.seen.add(key)
                yield policy, line


def _try_pattern(pattern: str) -> Callable[[str], object] | None:
    """Build a test, unless all patterns together are too long for one."""
    try:
        return pattern_search(pattern)
    except InvalidArgument:
        return None
