"""pyslurm with the interface that was the only one up to 20.11."""

from __future__ import annotations

import os
from typing import Any

from fate import FOLDER, meet, next_id

_version = FOLDER / "version"
__version__ = _version.read_text() if _version.exists() else "22.5.3"
if (FOLDER / "fate").exists() and (FOLDER / "fate").read_text() == "crashes on import":
    raise SystemExit(1)

_last = (0, "")


class job:  # noqa: N801 (its name)
    """All about jobs."""

    def submit_batch_job(self, options: dict[str, Any]) -> int:
        """Submit a job."""
        global _last
        # The real one skips what is false, so that a plain zero would be lost.
        told = {name: value for name, value in options.items() if value}
        _last = meet("submit", environment=dict(os.environ), **told)
        if _last[0]:
            raise ValueError("Batch job submission failed: %s", None)
        return next_id()


def slurm_kill_job(job_id: int, signal: int, flags: int) -> int:
    """Send a signal to a job."""
    global _last
    _last = meet("cancel", id=job_id, signal=signal)
    if _last[0]:
        raise ValueError(_last[1], _last[0])
    return 0


def slurm_get_errno() -> int:
    """Return the number of the last error."""
    return _last[0]


def slurm_strerror(number: int) -> str:
    """Return the text of an error, as the real one makes it in Python 3."""
    return str(_last[1].encode())
