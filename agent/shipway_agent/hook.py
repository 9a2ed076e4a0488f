"""A program of the site's own that is told when the master is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Mapping

from shipway_agent.config import HookSettings

log = logging.getLogger(__name__)

_OUTPUT_LIMIT = 4096


class OutageHook:
    """Runs the site's program once per outage of the master."""

    def __init__(self, settings: HookSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._last_age_s = 0.0
        self._has_run = False

    async def note(self, age_s: float, gives_up: bool) -> None:
        """Take notice of a failure *age_s* after an outage began."""
        if age_s < self._last_age_s:
            self._has_run = False  # it is another outage
        self._last_age_s = age_s
        is_due = gives_up or age_s >= self._settings.after_s
        if self._settings.on_connection_lost and is_due and not self._has_run:
            self._has_run = True
            await self._run()

    async def _run(self) -> None:
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
