"""The mark by which a job knows its cancel from a preemption: both come as SIGTERM."""

from __future__ import annotations

import logging
from pathlib import Path

from shipway_launcher.errors import TransportError
from shipway_launcher.transport.base import Transport

log = logging.getLogger(__name__)

CANCEL_MARK = "cancelled"
"""A folder beside the task file; `shipway-agent job` looks for it."""


async def leave_cancel_mark(user: Transport, folder: Path) -> None:
    """Leave the mark in a job's *folder*; harmless if it is there, or if it cannot be left.

    Without it the job takes the cancel for a preemption: it tells the master so, and a task that
    would go on after SIGTERM ends by the SIGKILL that follows.
    """
    try:
        await user.install(folder / CANCEL_MARK, ())
    except TransportError as error:
        log.debug("no new mark of the cancel", extra={"reason": str(error)})
