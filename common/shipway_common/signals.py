"""The one way in which a daemon of ours is asked to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def stop_on_signals(
    *signals: signal.Signals,
) -> AsyncGenerator[asyncio.Event]:
    """Yield an event that any of *signals* (TERM and INT by default) sets.

    A second signal changes nothing; the handlers are removed on the way out.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    chosen = signals or (signal.SIGTERM, signal.SIGINT)
    for number in chosen:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in chosen:
            loop.remove_signal_handler(number)
