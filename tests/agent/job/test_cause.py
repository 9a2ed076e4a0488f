"""Why Slurm gives notice, read from its list of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipway_agent.job.cause import Cause, find_cause, parse_cause

PREEMPTED = "2026-01-02T03:04:05"


def row(preempted: str, left: str) -> str:
    return f"{preempted:<64}{left:<64}\n"


@pytest.mark.parametrize(
    ("text", "warning_s", "cause"),
    [
        (row(PREEMPTED, "10:00:00"), None, Cause.PREEMPTION),
        (row(PREEMPTED, "0:05"), 60, Cause.PREEMPTION),
        ("slurm_load_jobs: note\n\n" + row(PREEMPTED, "0:05"), 60, Cause.PREEMPTION),
        (row("N/A", "2:00"), 120, Cause.TIME_LIMIT),
        (row("N/A", "3:00"), 120, Cause.TIME_LIMIT),
        (row("N/A", "3:01"), 120, Cause.UNKNOWN),
        (row("N/A", "1-01:00:00"), 90000, Cause.TIME_LIMIT),
        (row("N/A", "0:00"), None, Cause.TIME_LIMIT),
        (row("N/A", "INVALID"), None, Cause.TIME_LIMIT),
        (row("N/A", "0:01"), None, Cause.UNKNOWN),
        (row("N/A", "UNLIMITED"), 60, Cause.UNKNOWN),
        (row("soon", "0:00"), 60, Cause.UNKNOWN),
        (row("2026", "0:00"), 60, Cause.UNKNOWN),
        ("", 60, Cause.UNKNOWN),
    ],
    ids=[
        *["preempted", "preempted near its limit", "behind a note", "warned", "warned early"],
        *["long before its limit", "days", "over", "long over", "nobody was to warn it"],
        *["no limit", "unknown word", "half a time", "no answer"],
    ],
)
def test_the_cause_is_read_from_squeue(text: str, warning_s: int | None, cause: Cause) -> None:
    assert parse_cause(text, warning_s) is cause


async def test_where_slurm_cannot_be_asked_the_cause_is_unknown(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path), "SLURM_JOB_ID": "7"}
    assert await find_cause(environ, 60) is Cause.UNKNOWN
    assert await find_cause({**environ, "SLURM_JOB_ID": "7.server"}, 60) is Cause.UNKNOWN


async def test_what_a_user_set_for_squeue_does_not_change_the_answer(tmp_path: Path) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text(
        '#!/bin/sh\n[ -z "$SQUEUE_FORMAT$SLURM_TIME_FORMAT" ] || exit 1\n'
        f"printf '%-64s%-64s\\n' {PREEMPTED} 1:00\n"
    )
    squeue.chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SLURM_JOB_ID": "7",
        "SQUEUE_FORMAT": "%i",
        "SLURM_TIME_FORMAT": "relative",
    }
    assert await find_cause(environ, None) is Cause.PREEMPTION
