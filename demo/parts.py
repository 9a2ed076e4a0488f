"""The daemons of the demo: started as a user would start them, and ended by their pid."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp


class PartFailed(Exception):
    """A daemon did not come up or went away; the text has the end of its log."""


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_program(name: str) -> str:
    """Return the console script of this very environment."""
    return str(Path(sys.executable).parent / name)


class Part:
    """One running daemon."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def require_alive(self) -> None:
        if self._process.returncode is not None:
            raise PartFailed(
                f"{self.name} ended with status {self._process.returncode}:\n{self.log_tail()}"
            )

    def log_tail(self, lines: int = 25) -> str:
        text = self._log.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    async def wait_for_url(self, url: str, *, limit_s: float = 30) -> None:
        """Wait until *url* answers anything at all."""
        try:
            async with asyncio.timeout(limit_s), aiohttp.ClientSession() as session:
                while True:
                    self.require_alive()
                    try:
                        async with session.get(url):
                            return
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise PartFailed(
                f"{self.name} did not answer at {url} in {limit_s:g} s:\n{self.log_tail()}"
            ) from None


@asynccontextmanager
async def running_part(
    name: str, *arguments: str, folder: Path, grace_s: float = 10
) -> AsyncGenerator[Part]:
    """Run the console script *name*; TERM on the way out, KILL after *grace_s* seconds."""
    log = folder / f"{name}.log"
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            find_program(name),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends its parts
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield Part(name, process, log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
