"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff_delays_s(
    *, first_s: float = 0.5, factor: float = 2.0, limit_s: float = 30.0, jitter: float = 0.5
) -> Iterator[float]:
    """Yield waiting times without end: growing by *factor*, capped, each spread by *jitter*.

    Args:
        first_s: The first delay before jitter, in seconds.
        factor: Growth from one delay to the next.
        limit_s: No delay before jitter is longer than this, in seconds.
        jitter: A delay d becomes a random number in [d * (1 - jitter), d], so that many clients
            that lost the same server do not return at the same moment.
    """
    delay_s = first_s
    while True:
        yield delay_s * (1 - jitter * random.random())  # noqa: S311 (no secret depends on it)
        delay_s = min(delay_s * factor, limit_s)
