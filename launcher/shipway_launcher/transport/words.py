"""The last words of a program, which say why it has gone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

_KEPT_BYTES = 4096
_SHOWN_CHARACTERS = 500
_WAIT_S = 1.0


class LastWords:
    """Keeps the end of what a program writes as standard error."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._kept = b""

    async def collect(self, read: Callable[[], Awaitable[bytes]]) -> None:
        """Take what *read* gives, for as long as something comes."""
        with contextlib.suppress(OSError):
            while data := await read():
                self._kept = (self._kept + data)[-_KEPT_BYTES:]

    async def text(self, end: Awaitable[object]) -> str:
        """Return what was said, after waiting a moment for the *end*."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                await end
        return self._kept.decode("utf-8", "replace").strip()[-_SHOWN_CHARACTERS:]
