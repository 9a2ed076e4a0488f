"""The ranks of a job: which of them run, and a word about those that are late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from shipway_proto.determined.api.v1 import trial_pb2 as api_trial

MOST_RANKS = 1 << 17
"""Of one job: more are no job but a mistake."""

_NAMED = 20


class Ranks:
    """Hears which ranks run, each by its own word."""

    def __init__(self, *, late_after_s: float, on_late: Callable[[str], None]) -> None:
        """Prepare.

        Args:
            late_after_s: After the first rank; others that do not run by then are named.
            on_late: Told what whoever reads the task's log should know.
        """
        self._late_after_s, self._on_late = late_after_s, on_late
        self.nodes: dict[int, str] = {}
        """Where each rank runs."""
        self._wanted = 0
        self._first_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._late: set[int] = set()

    def remember(self, notice: api_trial.NotifyContainerRunningRequest) -> None:
        """Take up what was said to an earlier run of the relay."""
        self.nodes[notice.rank] = notice.node_name
        self._wanted = notice.num_peers

    def note(self, notice: api_trial.NotifyContainerRunningRequest) -> None:
        """Take note that a rank runs."""
        self.remember(notice)
        self.watch()
        if notice.rank in self._late:
            self._late.discard(notice.rank)
            after_s = time.monotonic() - self._first_at
            self._on_late(
                f"{name_ranks([notice.rank], self.nodes)} runs now, {after_s:.0f} s after the first"
                + ("" if self._late else "; all ranks run")
            )

    def watch(self) -> None:
        """Wait for the ranks that are missing, if there are any."""
        self._first_at = self._first_at or time.monotonic()
        if len(self.nodes) >= self._wanted:
            self.close()
        elif self._timer is None and not self._late:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._late_after_s, self._name_late)

    @property
    def is_waiting(self) -> bool:
        """Whether some are missing, about which there may be something to say."""
        return self._timer is not None or bool(self._late)

    def close(self) -> None:
        """Wait no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _name_late(self) -> None:
        self._timer = None
        self._late = set(range(self._wanted)) - set(self.nodes)
        if self._late:
            self._on_late(
                f"{len(self.nodes)} of {self._wanted} containers run {self._late_after_s:g} s after"
                f" the first; not yet running: {name_ranks(sorted(self._late), self.nodes)}"
            )


def name_ranks(ranks: Iterable[int], nodes: Mapping[int, str]) -> str:
    """Name ranks for people, each with its node where that is known."""
    names = [f"{rank} ({nodes[rank]})" if nodes.get(rank) else str(rank) for rank in ranks]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{'rank' if len(names) == 1 else 'ranks'} {', '.join(names[:_NAMED])}{more}"
