"""What waits to be handled for one agent, in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

Item = TypeVar("Item")


class Inbox:
    """A queue whose reader may take several items of a kind at once.

    It has no limit of its own: connections stop reading before they put in too much, and all else
    that is put in is rare.
    """

    def __init__(self) -> None:
        self._items: deque[object] = deque()
        self._filled = asyncio.Event()

    def put(self, item: object) -> None:
        """Add an item at the end."""
        self._items.append(item)
        self._filled.set()

    async def take(self) -> object:
        """Wait for the first item and remove it."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()

    def take_more(self, select: Callable[[object], Item | None], *, limit: int) -> list[Item]:
        """Remove items from the front as long as *select* gives something for them."""
        taken: list[Item] = []
        while self._items and len(taken) < limit:
            item = select(self._items[0])
            if item is None:
                break
            self._items.popleft()
            taken.append(item)
        return taken
