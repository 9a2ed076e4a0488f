"""The signals a job gets: what Slurm wants to say with them, and what becomes of them."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

_NOTICES = (signal.SIGTERM, signal.SIGUSR1)
"""How a site lets Slurm announce a preemption: TERM, or USR1 where it so chose."""
_PASSED_ON = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_BURST_S = 2.0
"""Notices within this time are one: at the end of a grace period TERM comes twice."""
_WAITING = 100


class Notices:
    """Takes the process's signals from `__enter__` on; to be entered in the running loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last_s: float | None = None
        self.preempted = asyncio.Event()
        """Set by the first notice; nothing resets it, so the master is told once."""
        self.for_task: asyncio.Queue[int] = asyncio.Queue(_WAITING)
        """Signals that may be passed on, in order; a notice is a SIGTERM here."""

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in _NOTICES:
            loop.add_signal_handler(number, self._take_notice, number)
        for number in _PASSED_ON:
            loop.add_signal_handler(number, self._put, number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in (*_NOTICES, *_PASSED_ON):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # the task has ended, and its code must get out

    def _take_notice(self, number: int) -> None:
        now_s = self._clock()
        is_new = self._last_s is None or now_s - self._last_s > _BURST_S
        self._last_s = now_s
        if is_new:
            log.warning("%s: the job is to end", signal.Signals(number).name)
            self.preempted.set()
            self._put(signal.SIGTERM)

    def _put(self, number: int) -> None:
        if not self.for_task.full():  # whoever sends that many has said enough
            self.for_task.put_nowait(number)
