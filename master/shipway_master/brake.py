"""Slows down who guesses passwords: each name has one attempt at a time, and waits after failures."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from shipway_master.errors import ResourceExhausted, Unavailable

_FREE_FAILURES = 5
"""So often people mistype without noticing anything."""
_LONGEST_PAUSE_S = 8.0
_MOST_WAITING = 8
_FORGOTTEN_AFTER_S = 900.0
_MOST_NAMES = 10_000


def pause_s(failures: int) -> float:
    """How long the next attempt waits after so many failures in a row, in seconds."""
    if failures < _FREE_FAILURES:
        return 0.0
    return min(_LONGEST_PAUSE_S, 0.5 * 2.0 ** min(failures - _FREE_FAILURES, 10))


@dataclass(slots=True)
class Attempt:
    """One attempt; whoever makes it says when it was right."""

    is_right: bool = False


@dataclass(slots=True)
class _Name:
    failures: int = 0
    used_at: float = 0.0
    waiting: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class LoginBrake:
    """Counts failures by name, whether there is such a user or not: nobody learns that here."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, _Name] = OrderedDict()
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End the waiting of all attempts, and of those to come: the master is to end."""
        self._stopped.set()

    @asynccontextmanager
    async def attempt(self, username: str) -> AsyncGenerator[Attempt]:
        """Make an attempt when it is time for it.

        Raises:
            ResourceExhausted: Too many wait for theirs already.
            Unavailable: The master stopped meanwhile.
        """
        name = self._find(username)
        if name.waiting >= _MOST_WAITING:
            raise ResourceExhausted(
                "too many wrong passwords were given for this user; try again in a minute"
            )
        name.waiting += 1
        try:
            async with name.lock:
                await self._pause(pause_s(name.failures))
                attempt = Attempt()
                yield attempt
                name.failures = 0 if attempt.is_right else name.failures + 1
                name.used_at = time.monotonic()
        finally:
            name.waiting -= 1

    async def _pause(self, delay_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopped.wait()
        if self._stopped.is_set():
            raise Unavailable("the master is stopping")

    def _find(self, username: str) -> _Name:
        now = time.monotonic()
        name = self._names.setdefault(username, _Name(used_at=now))
        self._names.move_to_end(username)
        if now - name.used_at > _FORGOTTEN_AFTER_S and not name.waiting:
            name.failures = 0
        while len(self._names) > _MOST_NAMES:
            self._names.popitem(last=False)
        return name
