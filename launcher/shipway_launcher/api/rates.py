"""How often somebody may ask."""

from __future__ import annotations

import time
from collections.abc import Callable

_MOST = 4096


class Rates:
    """Lets each caller through a number of times per second, and a few seconds' worth at once."""

    def __init__(
        self, per_s: float, *, burst_s: float = 4.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nobody.

        Args:
            per_s: Times per second.
            burst_s: How many seconds' worth may come at once.
            clock: Counts seconds.
        """
        self._per_s, self._burst, self._clock = per_s, max(per_s * burst_s, 1.0), clock
        self._spent: dict[str, tuple[float, float]] = {}
        """How much of the burst was used up, and when that was."""

    def take(self, name: str) -> float:
        """Let *name* through once more: 0; or say for how many seconds it has to wait."""
        now = self._clock()
        spent, at = self._spent.get(name, (0.0, now))
        spent = max(0.0, spent - (now - at) * self._per_s) + 1
        if spent > self._burst:
            return (spent - self._burst) / self._per_s
        if len(self._spent) >= _MOST:
            self._forget_rested(now)
        self._spent[name] = (spent, now)
        return 0.0

    def _forget_rested(self, now: float) -> None:
        """Forget who has not asked for a while; if all are busy, those who came first."""
        busy = {
            name: (spent, at)
            for name, (spent, at) in self._spent.items()
            if spent > (now - at) * self._per_s
        }
        self._spent = dict(list(busy.items())[-_MOST // 2 :])
