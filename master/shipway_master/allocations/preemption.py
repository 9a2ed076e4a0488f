"""The preemption signal of one allocation: asked for once, heard by all, acknowledged by one."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from shipway_master.allocations.errors import InvalidCall

LONGEST_POLL_S = 60
"""Clients give up ten seconds after the time they ask for; no poll is held longer than this."""


class PreemptionCause(StrEnum):
    """Who wants the allocation to leave; decides what becomes of the task afterwards."""

    SCHEDULER = "scheduler"
    """Slurm or the agent scheduler needs the room: the task comes back."""
    USER = "user"
    """Paused or stopped by a person."""


class Preemption:
    """The signal; it never goes back.

    Args:
        cause: Set when the signal had been given before this process started.
    """

    def __init__(self, *, cause: PreemptionCause | None = None, is_acked: bool = False) -> None:
        self.cause = cause
        self.is_acked = is_acked
        self.has_listener = is_acked
        self._given = asyncio.Event()
        if cause is not None:
            self._given.set()

    @property
    def is_given(self) -> bool:
        """Whether the task has been asked to leave."""
        return self.cause is not None

    def give(self, cause: PreemptionCause) -> bool:
        """Ask the task to leave; True the first time. The first cause stays."""
        if self.cause is not None:
            return False
        self.cause = cause
        self._given.set()
        return True

    async def wait(self, timeout_s: int) -> bool:
        """Return True as soon as the signal is given, False after *timeout_s* (0: at once).

        Raises:
            InvalidCall: The time is negative.
        """
        if timeout_s < 0:
            raise InvalidCall(f"timeout_seconds must not be negative, it is {timeout_s}")
        self.has_listener = True
        if timeout_s and not self.is_given:
            try:
                async with asyncio.timeout(min(timeout_s, LONGEST_POLL_S)):
                    await self._given.wait()
            except TimeoutError:
                return False
        return self.is_given

    def close(self) -> None:
        """End all waiting polls with whatever is true now; the allocation is over."""
        self._given.set()
