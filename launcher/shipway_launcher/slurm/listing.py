"""Ask for all jobs: in text, which every release has and which is cheap, else in JSON."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from shipway_launcher.errors import BackendRefused, BackendUnreadable
from shipway_launcher.slurm import commands
from shipway_launcher.slurm.commands import JOB_FIELDS, Columns
from shipway_launcher.slurm.parse import parse_jobs
from shipway_launcher.slurm.parse_json import parse_jobs_json
from shipway_launcher.slurm.rows import JobRow

log = logging.getLogger(__name__)

_JSON_FOR_S = 600.0

Ask = Callable[[Sequence[str]], Awaitable[str]]
"""Runs a command and gives what it printed."""


class JobListing:
    """Reads squeue's list of jobs.

    Where squeue does not take the columns, or a wrapper of the site spoils what it prints, the
    same is asked for as JSON; text is tried again after a while, for it costs a tenth.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with text."""
        self._clock = clock
        self._json_until = 0.0

    async def jobs(self, ask: Ask) -> list[JobRow]:
        """Return all jobs that *ask* gives to see.

        Raises:
            BackendError: Slurm did not answer, or in neither form that can be read.
        """
        if self._clock() < self._json_until:
            return await self._as_json(ask)
        try:
            return await self._as_text(ask)
        except (BackendRefused, BackendUnreadable) as error:
            try:
                rows = await self._as_json(ask)
            except (BackendRefused, BackendUnreadable):
                raise error from None
            log.warning("squeue's text cannot be used, its JSON is: %s", error)
            self._json_until = self._clock() + _JSON_FOR_S
            return rows

    async def _as_text(self, ask: Ask) -> list[JobRow]:
        columns = Columns.of(JOB_FIELDS)
        stdout = await ask(commands.list_jobs(columns))
        # Tens of thousands of jobs take a second to read; others are served meanwhile.
        return await _read(lambda: parse_jobs(columns, stdout))

    async def _as_json(self, ask: Ask) -> list[JobRow]:
        stdout = await ask(commands.list_jobs_as_json())
        return await _read(lambda: parse_jobs_json(stdout))


async def _read(parse: Callable[[], list[JobRow]]) -> list[JobRow]:
    try:
        return await asyncio.to_thread(parse)
    except ValueError as error:
        raise BackendUnreadable(f"squeue's answer cannot be read: {error}") from error
