"""Work in a folder of ours, told from what a killed process has left there half done.

Who works in a folder shares a lock on it; who tidies up needs it alone. The kernel gives the lock
back however a process ends, and other processes may look on: `check` opens runtimes as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

from shipway_agent.tasks import uncut


@contextlib.asynccontextmanager
async def work_in(folder: Path) -> AsyncGenerator[None]:
    """Keep tidying away from *folder*, which exists; waits for one that is under way."""
    descriptor = await asyncio.to_thread(os.open, folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        await uncut(asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_SH))
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone_in(folder: Path) -> Generator[bool]:
    """Say whether nobody works in *folder*, and keep it so; blocking."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)
