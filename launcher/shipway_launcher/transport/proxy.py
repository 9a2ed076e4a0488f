"""The ProxyCommand of an ssh config: a program whose standard input and output are the connection."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

_END_S = 2.0


@asynccontextmanager
async def run_proxy(command: str) -> AsyncGenerator[socket.socket]:
    """Run *command* as OpenSSH does, and give our end of its connection; at the end it goes.

    It gets no terminal, so it can ask nobody.
    """
    ours, its = socket.socketpair()
    with ours:
        with its:
            process = await asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", f"exec {command}"),
                stdin=its.fileno(),
                stdout=its.fileno(),
                stderr=DEVNULL,
                start_new_session=True,
            )
        try:
            yield ours
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await process.wait()
