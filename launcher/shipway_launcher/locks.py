"""Locks that are found by a name and gone when nobody holds or awaits them."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary


class NamedLocks:
    """One lock for each name."""

    def __init__(self) -> None:
        """Begin without any."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, name: str) -> asyncio.Lock:
        """Return the lock of *name*; the caller's reference is what keeps it."""
        return self._locks.setdefault(name, asyncio.Lock())
