"""Going on although an engine was away for a while: it may just be restarting."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from shipway_agent.errors import RuntimeUnavailable
from shipway_common.backoff import backoff_delays_s

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_S = 60.0
"""How long an engine may be away before a launch is given up."""


class Outage:
    """A time without an engine: how long it lasts, told once, and how soon to ask again."""

    def __init__(self, *, longest_pause_s: float = 2.0) -> None:
        """Begin when `note` is called first.

        Args:
            longest_pause_s: Between two tries, in seconds.
        """
        self._longest_pause_s = longest_pause_s
        self._began_at: float | None = None
        self._words = ""
        self._delays = self._new_delays()

    def note(self, error: Exception) -> float:
        """Take in a failed try; returns how many seconds ago the first was."""
        now = time.monotonic()
        if self._began_at is None:
            self._began_at = now
        if str(error) != self._words:
            self._words = str(error)
            log.warning("the engine does not answer, going on: %s", self._words)
        return now - self._began_at

    async def pause(self) -> None:
        """Wait until the next try is due."""
        await asyncio.sleep(next(self._delays))

    def end(self) -> None:
        """Forget all tries: it answered."""
        self._began_at = None
        self._words = ""
        self._delays = self._new_delays()

    def _new_delays(self) -> Iterator[float]:
        return backoff_delays_s(first_s=0.1, limit_s=self._longest_pause_s)


async def outlast(ask: Callable[[], Awaitable[T]], *, patience_s: float = PATIENCE_S) -> T:
    """Return what *ask* returns, asking again while the engine does not answer.

    Args:
        ask: Must be harmless to repeat, although an earlier try may have worked.
        patience_s: How long after the first failure another try may begin, in seconds.

    Raises:
        RuntimeUnavailable: The engine stayed away.
    """
    outage = Outage()
    while True:
        try:
            return await ask()
        except RuntimeUnavailable as error:
            if outage.note(error) >= patience_s:
                raise
        await outage.pause()
