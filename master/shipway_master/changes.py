"""Wake those who wait for something to change, without polling."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Generator, Hashable
from contextlib import contextmanager
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Changes(Generic[Key]):
    """Tells watchers of a key that something about it is new; what is new they look up.

    A watcher first opens its watch and then looks, so that no change falls between the two. It
    cannot fall behind: several changes since its last look wake it once.
    """

    def __init__(self) -> None:
        self._watches: defaultdict[Key, set[asyncio.Event]] = defaultdict(set)

    @contextmanager
    def watch(self, *keys: Key) -> Generator[Watch]:
        """Watch all of *keys* inside the block."""
        event = asyncio.Event()
        for key in keys:
            self._watches[key].add(event)
        try:
            yield Watch(event)
        finally:
            for key in set(keys):
                self._watches[key].discard(event)
                if not self._watches[key]:
                    del self._watches[key]

    def announce(self, key: Key) -> None:
        """Wake all that watch *key*."""
        for event in self._watches.get(key, ()):
            event.set()


class Watch:
    """One open watch."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def changed(self) -> None:
        """Return when something was announced since the last return, at once if it already was."""
        await self._event.wait()
        self._event.clear()
