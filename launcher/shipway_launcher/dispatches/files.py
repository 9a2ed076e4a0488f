"""Where the files of a dispatch are, and by which names they can be asked for."""

from __future__ import annotations

import re
from pathlib import Path

from shipway_launcher.errors import WrongRequest

SCRIPT = "job.sh"
OUTPUT_LOG = "output.log"
ERROR_LOG = "error.log"
EXIT = "exit"
VOLUME = "volume"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_dispatch_id(text: str) -> str:
    """Return *text* if it can name a folder and a job.

    Raises:
        WrongRequest: It cannot.
    """
    if not _ID.fullmatch(text):
        raise WrongRequest(
            f"dispatchId: {text[:80]!r} must be up to 200 letters, digits, dots, hyphens and"
            " underscores, and begin with a letter or digit"
        )
    return text


def job_folder(root: Path, owner: str, dispatch_id: str) -> Path:
    """Return the folder of the job's own files, which belongs to the job's user."""
    return jobs_root(root) / owner / dispatch_id


def jobs_root(root: Path) -> Path:
    """Return the folder in which each user has one."""
    return root / "jobs" / "environments"


def safe_name(text: str) -> str:
    """Return *text* with a `_` for everything that is not plain."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:200]


def log_file(payload: str, log_name: str) -> str | None:
    """Return the file behind a log's name as the API knows it; None if there is no such log."""
    return log_files(payload).get(log_name)


def log_files(payload: str) -> dict[str, str]:
    """Return the files of a job by the names of logs under which the API knows them."""
    return {
        f"{payload}-output.log": OUTPUT_LOG,
        f"{payload}-error.log": ERROR_LOG,
        f"{payload}-job.sh": SCRIPT,
    }
