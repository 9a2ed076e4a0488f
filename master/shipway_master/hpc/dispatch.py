"""One job that was handed to the launcher, while it is watched."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shipway_master.cluster.manager import Holder
from shipway_master.hpc.reading import DispatchState, QueuedJob
from shipway_master.hpc.records import DispatchRecord

_NO_REASON = "None"
"""Slurm's word for a job that it has not looked at yet."""


@dataclass(slots=True, kw_only=True)
class Dispatch:
    """What is known of a dispatch beyond its record; changed by the watch and the launch only."""

    record: DispatchRecord
    holder: Holder
    state: DispatchState = DispatchState.UNKNOWN
    kill_wanted: bool = False
    kill_accepted_at: float | None = None
    checked_at: float = 0.0
    is_finished: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)


def note_reason(record: DispatchRecord, job: QueuedJob) -> str | None:
    """Remember why a job waits; return the line that tells it, if it is news."""
    code, before = job.reason_code, record.reason
    if code == before:
        return None
    if job.state.upper() in ("PD", "PENDING"):
        record.reason = code
        if code in ("", _NO_REASON):
            return None
        return f"HPC job waiting to be scheduled: {job.reason_text or code}"
    record.reason = code
    if code == "Prolog":
        return f"HPC job waiting on pre-condition: {job.reason_text or code}"
    if before == "Prolog":
        return "HPC job pre-condition cleared."
    return None
