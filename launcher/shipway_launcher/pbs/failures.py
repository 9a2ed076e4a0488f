"""What it means when a command of PBS fails."""

from __future__ import annotations

import re

from shipway_launcher.commandline import Failure

_UNREACHED = re.compile(
    r"cannot connect to server|connection refused|no route to host|unknown host|could not resolve"
    r"|pbs_iff|server shutting down|no default server|could not connect|couldn't connect",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"batch protocol error|end of file|timed? ?out|connection (?:reset|closed)|broken pipe"
    r"|communication failure",
    re.IGNORECASE,
)
_GONE = re.compile(
    r"unknown job id|job has finished|not configured to maintain job history", re.IGNORECASE
)
_TOO_LATE = re.compile(r"unknown job id|job has finished|invalid for state of job", re.IGNORECASE)


def classify_failure(said: str) -> Failure:
    """Say what a command's words on standard error mean."""
    if _UNREACHED.search(said):
        return Failure.UNREACHED
    return Failure.NO_ANSWER if _NO_ANSWER.search(said) else Failure.REFUSED


def only_tells_of_missing_jobs(said: str) -> bool:
    """Say whether qstat failed only because it does not know some of the jobs, or no history."""
    return _all_lines(_GONE, said)


def only_tells_of_ended_jobs(said: str) -> bool:
    """Say whether qdel or qsig failed only because jobs are over, or do not run."""
    return _all_lines(_TOO_LATE, said)


def _all_lines(form: re.Pattern[str], said: str) -> bool:
    lines = [line for line in said.splitlines() if line.strip()]
    return bool(lines) and all(form.search(line) for line in lines)
