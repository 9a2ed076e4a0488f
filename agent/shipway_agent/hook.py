"""A program of the site's own that is told when the master is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping
from types import TracebackType

from shipway_agent.config import HookSettings

log = logging.getLogger(__name__)

_OUTPUT_LIMIT = 4096


class OutageHook:
    """Runs the site's program once per outage of the master, beside the tries to reach it.

    Entered with `async with`; a program that still runs on the way out is ended.
    """

    def __init__(self, settings: HookSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._last_age_s = 0.0
        self._has_run = False
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> OutageHook:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def note(self, age_s: float, gives_up: bool) -> None:
        """Take notice of a failure *age_s* after an outage began.

        Returns at once, but when the agent gives up: then after the program has ended.
        """
        if age_s < self._last_age_s:
            self._has_run = False  # it is another outage
        self._last_age_s = age_s
        is_due = gives_up or age_s >= self._settings.after_s
        if self._settings.on_connection_lost and is_due and not self._has_run:
            self._has_run = True
            await self._wait_ended()
            self._running = asyncio.create_task(self._run(), name="hook")
        if gives_up:
            await self._wait_ended()

    async def _wait_ended(self) -> None:
        """Wait until the program does not run, which it does for a bounded time."""
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            await self._run_program()
        except Exception:
            log.exception("hooks.on_connection_lost failed; the agent goes on without")

    async def _run_program(self) -> None:
        argv = self._settings.on_connection_lost
        log.warning("the master is lost; running %s", argv[0])
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=dict(self._environ),
                start_new_session=True,
            )
        except OSError as error:
            log.error("hooks.on_connection_lost: %s cannot be started: %s", argv[0], error)
            return
        assert process.stdout is not None
        output = b""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                while chunk := await process.stdout.read(_OUTPUT_LIMIT):
                    output = (output + chunk)[-_OUTPUT_LIMIT:]
                await process.wait()
        except TimeoutError:
            log.error("hooks.on_connection_lost: did not end in %g s", self._settings.timeout_s)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            text = output.decode("utf-8", "replace").strip()
            log.error("hooks.on_connection_lost: exit status %s: %s", process.returncode, text)
