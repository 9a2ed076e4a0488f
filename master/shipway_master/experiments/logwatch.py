"""Looks for what log policies describe in the logs of trials, as they are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from shipway_master.logbook.lines import LogLine
from shipway_master.logbook.search import many_search, pattern_search
from shipway_master.tasks.logpolicy import LogPolicy

OnMatch = Callable[[str, LogPolicy, LogLine], None]
"""Is told of a task, the policy, and the first line of its run (and node) that matched."""

_CONFIGURATION = '"log_policies": ['
"""The harness prints the whole configuration, the patterns included, when it begins."""

_task_id = attrgetter("task_id")


@dataclass(slots=True)
class _Watched:
    """The policies of one task."""

    policies: Sequence[tuple[LogPolicy, Callable[[str], object]]]
    may_match: Callable[[Sequence[str]], bool]
    """Says of many lines at once whether any of them may match."""
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
        self._watched[task_id] = _Watched(
            policies=list(zip(active, map(pattern_search, patterns), strict=True)),
            may_match=many_search(patterns),
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
    texts = [line.text.rstrip("\r\n") for line in lines]
    if not watched.may_match(texts):
        return
    for line, text in zip(lines, texts, strict=True):
        if line.source == "master" or _CONFIGURATION in text:
            continue
        for number, (policy, matches) in enumerate(watched.policies):
            key = number, line.agent_id
            if key not in watched.seen and matches(text):
                watched.seen.add(key)
                yield policy, line
