"""Kill what is on a job's way, and find the processes of a job."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.lab.processes import is_alive, wait_until
from tests.launcher.go_master import Job


def kill(pid: int | None) -> None:
    """End a process at once, and wait until it is gone; it may have gone with another before."""
    assert pid is not None
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it is gone", limit_s=10)


def processes(job: Job, word: str) -> list[int]:
    """Find the processes of a job with *word* in their arguments."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            arguments = (folder / "cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        if f"SLURM_JOB_ID={job.job_id}".encode() in variables and word.encode() in arguments:
            found.append(int(folder.name))
    return found
