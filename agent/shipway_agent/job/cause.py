"""Why Slurm gives notice: the signals of a preemption and of a time limit are the same, its list is not."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import datetime

from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.runtimes.commands import run_command

_ASK_LIMIT_S = 5.0
_LATE_S = 60
"""Slurm rounds lead times: it may warn up to a minute early."""
_WIDTH = 64
_LEFT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d\d)")
_CHANGES_OUTPUT = ("SQUEUE_", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN", "SLURM_CLUSTERS")


class Cause(enum.StrEnum):
    """Why a job is to end."""

    PREEMPTION = enum.auto()
    TIME_LIMIT = enum.auto()
    UNKNOWN = enum.auto()
    """Neither is known: somebody sent the signal, or Slurm does not tell."""


async def find_cause(environ: Mapping[str, str], warning_s: int | None) -> Cause:
    """Ask Slurm why it gave notice to this job.

    Args:
        environ: This process's variables, as Slurm set them.
        warning_s: How long before its time limit the job is to be warned; None: not at all.
    """
    job_id = environ.get("SLURM_JOB_ID", "")
    if not re.fullmatch(r"[0-9]+", job_id):
        return Cause.UNKNOWN
    argv = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}"]
    argv.append(f"--Format=PreemptTime:{_WIDTH},TimeLeft:{_WIDTH}")
    clean = {name: value for name, value in environ.items() if not name.startswith(_CHANGES_OUTPUT)}
    try:
        result = await run_command(argv, {**clean, "LC_ALL": "C"}, limit_s=_ASK_LIMIT_S)
    except RuntimeUnavailable:
        return Cause.UNKNOWN
    return parse_cause(result.stdout.decode(errors="replace"), warning_s)


def parse_cause(text: str, warning_s: int | None) -> Cause:
    """Read squeue's two columns; lines of another form are not Slurm's."""
    for line in text.splitlines():
        preempted, left = line[:_WIDTH].strip(), line[_WIDTH:].strip()
        if _is_time(preempted):
            return Cause.PREEMPTION
        if preempted != "N/A":
            continue
        if left == "INVALID":  # how Slurm writes less than nothing
            return Cause.TIME_LIMIT
        if match := _LEFT.fullmatch(left):
            days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
            left_s = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
            is_near = left_s <= (0 if warning_s is None else warning_s + _LATE_S)
            return Cause.TIME_LIMIT if is_near else Cause.UNKNOWN
    return Cause.UNKNOWN


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return "T" in text
