"""The signals a job gets: what Slurm wants to say with them, and what becomes of them.

A cancel by the launcher comes as the same SIGTERM as a preemption, and so does the end of the other
ranks when one has failed. Who brings that about leaves a mark beside the task file before; so it is
looked for at each notice.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

CANCEL_MARK = "cancelled"
"""A folder of this name beside the task file. The launcher makes it before it cancels the job, and a
rank before it ends with a failure, for which srun ends the others; the script of a PBS job does too."""

_NOTICES = (signal.SIGTERM, signal.SIGUSR1)
"""How Slurm announces a preemption or a time limit: by TERM, or by USR1 where it was told so."""
_PASSED_ON = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_BURST_S = 2.0
"""Notices within this time are one: at the end of a grace period TERM comes twice."""
_WAITING = 100
_LOOK_LIMIT_S = 2.0
"""How long shared storage may take to say whether there is a mark."""


class Notices:
    """Takes the process's signals from `__aenter__` on."""

    def __init__(
        self, folder: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare.

        Args:
            folder: Where the mark is; None: nobody leaves one.
        """
        self._folder, self._clock = folder, clock
        self._last_s: float | None = None
        self._taken: asyncio.Queue[int] = asyncio.Queue(_WAITING)
        self._stack = AsyncExitStack()
        self.preempted = asyncio.Event()
        """Set by the first notice that is no cancel: of a preemption, as a rule, or of the time limit.

        Nothing resets it, so the master is told once.
        """
        self.cancelled = asyncio.Event()
        """Set when the launcher wants the end, which the master knows already, or a rank has failed."""
        self.for_task: asyncio.Queue[int] = asyncio.Queue(_WAITING)
        """Signals that may be passed on, in order; a cancel is a SIGTERM here."""

    async def __aenter__(self) -> Self:
        group = await self._stack.enter_async_context(asyncio.TaskGroup())
        self._stack.callback(group.create_task(self._judge_all(), name="notices").cancel)
        loop = asyncio.get_running_loop()
        for number in _NOTICES:
            loop.add_signal_handler(number, _put, self._taken, number)
        for number in _PASSED_ON:
            loop.add_signal_handler(number, _put, self.for_task, number)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in (*_NOTICES, *_PASSED_ON):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # the task has ended, and its code must get out
        await self._stack.__aexit__(kind, error, trace)

    def ends(self, *, terminates: bool) -> bool:
        """Say whether the task is to end: on any notice if SIGTERM *terminates* it, or cancelled."""
        return self.cancelled.is_set() or (terminates and self.preempted.is_set())

    async def wait_for_end(self, *, terminates: bool) -> None:
        """Return as soon as the task is to end."""
        events = (self.cancelled, *([self.preempted] if terminates else []))
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(event.wait()) for event in events]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def tell_failure(self) -> None:
        """Let the other ranks know that this one failed by itself, unless a notice came before."""
        if self._folder is None or self.preempted.is_set() or self.cancelled.is_set():
            return
        mark = self._folder / CANCEL_MARK
        try:
            async with asyncio.timeout(_LOOK_LIMIT_S):
                await asyncio.to_thread(mark.mkdir, exist_ok=True)
        except (TimeoutError, OSError) as error:
            log.warning("cannot let the other ranks know of this one's failure: %r", error)

    async def _judge_all(self) -> None:
        while True:
            number = await self._taken.get()
            self._note(number, is_cancel=await self._is_cancelled())

    def _note(self, number: int, *, is_cancel: bool) -> None:
        now_s = self._clock()
        is_repeated = self._last_s is not None and now_s - self._last_s <= _BURST_S
        is_news = is_cancel and not self.cancelled.is_set()
        self._last_s = now_s
        if is_repeated and not is_news:
            return
        name = signal.Signals(number).name
        if is_cancel:
            log.warning("%s: the job is cancelled, or ended by another rank", name)
            self.cancelled.set()
        else:
            log.warning("%s: the job is to end", name)
            self.preempted.set()
        _put(self.for_task, signal.SIGTERM if is_cancel else number)

    async def _is_cancelled(self) -> bool:
        if self._folder is None or self.cancelled.is_set():
            return self.cancelled.is_set()
        try:
            async with asyncio.timeout(_LOOK_LIMIT_S):
                return await asyncio.to_thread((self._folder / CANCEL_MARK).exists)
        except (TimeoutError, OSError) as error:
            log.warning("cannot look for why the job is to end: %r", error)
            return False


def _put(queue: asyncio.Queue[int], number: int) -> None:
    if not queue.full():  # whoever sends that many has said enough
        queue.put_nowait(number)
