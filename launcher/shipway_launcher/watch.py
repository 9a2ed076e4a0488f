"""One question to Slurm per round for all jobs, whatever their number."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from shipway_launcher.errors import BackendError, BackendUnreachable, TransportError
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.rows import JobRow

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One look at all jobs."""

    rows: Sequence[JobRow] = ()
    error: BackendError | TransportError | None = None
    """Why nothing was seen; what was known before still stands then."""
    at: float = field(default_factory=time.monotonic)

    def jobs(self) -> Sequence[JobRow]:
        """Return all jobs.

        Raises:
            BackendError: Slurm did not answer.
            TransportError: It could not even be asked.
        """
        if self.error is not None:
            raise self.error
        return self.rows


_STOPPING = Round(error=BackendUnreachable("the launcher is stopping"))


class Watch:
    """Looks at all jobs again and again, and at once when somebody cannot wait.

    Run `run` as a task; whoever needs an answer that is not older than the question awaits
    `fresh`. All who ask while a round is under way share the next one.
    """

    def __init__(
        self,
        slurm: SlurmBackend,
        follow: Callable[[Sequence[JobRow]], Awaitable[None]],
        *,
        is_needed: Callable[[], bool],
        interval_s: float,
    ) -> None:
        """Prepare; `run` does the work.

        Args:
            slurm: Whom to ask.
            follow: Is given all jobs of each round, and done before anybody hears of the round.
            is_needed: Says whether there is anything to look at when nobody asks.
            interval_s: Time between two rounds when nobody is in a hurry, in seconds.
        """
        self._slurm, self._follow, self._interval_s = slurm, follow, interval_s
        self._is_needed = is_needed
        self._is_wanted = asyncio.Event()
        self._next: asyncio.Future[Round] | None = None
        self._is_closed = False
        self._last: tuple[float, Round] = (-math.inf, Round())
        """When the newest finished round began, and what it saw."""

    async def run(self) -> None:
        """Watch until cancelled."""
        was_reached = True
        waiting: asyncio.Future[Round] | None = None
        try:
            while True:
                waiting, self._next = self._next, None
                self._is_wanted.clear()
                began = time.monotonic()
                done = await self._look()
                self._last = (began, done)
                if (done.error is None) is not was_reached:
                    was_reached = done.error is None
                    self._log_change(done)
                _answer(waiting, done)
                await self._pause()
        finally:
            self._is_closed = True
            _answer(waiting, _STOPPING)
            _answer(self._next, _STOPPING)

    @property
    def is_answered(self) -> bool:
        """Whether the newest question was answered; so before the first."""
        return self._last[1].error is None

    async def _pause(self) -> None:
        """Wait until a round is due: at once if somebody asks, else when there is anything to do."""
        while True:
            try:
                async with asyncio.timeout(self._interval_s):
                    await self._is_wanted.wait()
                    return
            except TimeoutError:
                if self._is_needed():
                    return

    async def fresh(self) -> Round:
        """Return a round that began after this call."""
        if self._is_closed:
            return _STOPPING
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        self._is_wanted.set()
        return await asyncio.shield(self._next)

    async def recent(self, max_age_s: float) -> Round:
        """Return a round that began no longer ago than that, a new one if there is none."""
        began, done = self._last
        if done.error is None and time.monotonic() - began <= max_age_s and not self._is_closed:
            return done
        return await self.fresh()

    async def _look(self) -> Round:
        try:
            rows = await self._slurm.jobs()
        except (BackendError, TransportError) as error:
            return Round(error=error)
        try:
            await self._follow(rows)
        except Exception:  # a mistake about one job must not end the watch over all
            log.exception("a round was not finished")
        return Round(rows=rows)

    def _log_change(self, done: Round) -> None:
        if done.error is None:
            log.info("Slurm answers again")
        else:
            log.warning("Slurm does not answer; states are kept: %s", done.error)


def _answer(waiting: asyncio.Future[Round] | None, done: Round) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(done)
