"""The states of a Slurm job, long and short, and what each means for who waits for the job."""

from __future__ import annotations

import enum
import functools
import re
from dataclasses import dataclass


class Phase(enum.StrEnum):
    """Where a job is in its life."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """A word that nobody has heard of: keep watching."""


class End(enum.StrEnum):
    """Why a job ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    DEADLINE = "deadline missed"
    PREEMPTED = "preempted"
    NODE_FAILED = "node failed"
    OUT_OF_MEMORY = "out of memory"
    COULD_NOT_START = "could not start"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A state as Slurm named it, and what it means."""

    word: str
    phase: Phase
    end: End | None = None


_WAITING = (
    "PENDING=PD CONFIGURING=CF REQUEUED=RQ REQUEUE_FED=RF REQUEUE_HOLD=RH SPECIAL_EXIT=SE"
    " RESV_DEL_HOLD=RD POWER_UP_NODE="
)
_RUNNING = "RUNNING=R SUSPENDED=S STOPPED=ST SIGNALING=SI RESIZING=RS STAGE_OUT=SO"
_ENDING = "COMPLETING=CG"
_ENDED = {
    "COMPLETED": ("CD", End.COMPLETED),
    "FAILED": ("F", End.FAILED),
    "CANCELLED": ("CA", End.CANCELLED),
    "TIMEOUT": ("TO", End.TIMED_OUT),
    "DEADLINE": ("DL", End.DEADLINE),
    "PREEMPTED": ("PR", End.PREEMPTED),
    "NODE_FAIL": ("NF", End.NODE_FAILED),
    "OUT_OF_MEMORY": ("OOM", End.OUT_OF_MEMORY),
    "BOOT_FAIL": ("BF", End.COULD_NOT_START),
    "LAUNCH_FAILED": ("", End.COULD_NOT_START),
    "RECONFIG_FAIL": ("", End.COULD_NOT_START),
}

_BY_WORD: dict[str, JobState] = {}
for _phase, _words in (
    (Phase.WAITING, _WAITING),
    (Phase.RUNNING, _RUNNING),
    (Phase.ENDING, _ENDING),
):
    for _word, _, _short in (pair.partition("=") for pair in _words.split()):
        _BY_WORD[_word] = _BY_WORD[_short] = JobState(word=_word, phase=_phase)
for _word, (_short, _end) in _ENDED.items():
    _BY_WORD[_word] = _BY_WORD[_short] = JobState(word=_word, phase=Phase.ENDED, end=_end)
del _BY_WORD[""]

_FORM = re.compile(r"([A-Z_]+)(?: by \S+|\+)?")


@functools.lru_cache(256)
def parse_job_state(text: str) -> JobState:
    """Read `RUNNING`, `CG`, `CANCELLED by 1000`, `CANCELLED+`; never fails.

    Of several states (`RUNNING,COMPLETING`) the one furthest in the job's life counts, unless one
    of them is unknown.
    """
    found = [_parse_one(part.strip()) for part in text.upper().split(",")]
    order = list(Phase)
    return max(found, key=lambda state: order.index(state.phase))


def _parse_one(text: str) -> JobState:
    match = _FORM.fullmatch(text.replace(" BY ", " by "))
    known = _BY_WORD.get(match.group(1)) if match else None
    return known or JobState(word=text, phase=Phase.UNKNOWN)
