"""What becomes of a call: noted in `calls`, then as the file `fate` says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent

ERRORS = {
    "refused": (2000, "Invalid partition name specified"),
    "unreached": (1800, "Unable to contact slurm controller (connect failure)"),
    "unanswered": (5004, "Socket timed out on send/recv operation"),
    "unknown job": (2017, "Invalid job id specified"),
}


def meet(call: str, **details: Any) -> tuple[int, str]:
    """Do what is written; return Slurm's error number and text, 0 for none."""
    with (FOLDER / "calls").open("a") as calls:
        calls.write(json.dumps({"call": call, "pid": os.getpid(), **details}, default=str) + "\n")
    path = FOLDER / "fate"
    fate = path.read_text() if path.exists() else ""
    if fate == "hangs":
        time.sleep(600)
    if fate == "slow":
        time.sleep(2.5)
    if fate == "job made, then crash":
        path.unlink()
        argv = ["sbatch", "--parsable", str(details["script"])]
        subprocess.run(argv, check=True, stdout=sys.stderr)
    if fate in ("crashes", "job made, then crash"):
        sys.stderr.write("python: fatal: something in libslurm\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)
    if fate == "cannot be told":
        raise TypeError("an integer is required")
    if fate == "refused":
        # libslurm itself tells more than pyslurm raises
        sys.stderr.write("python: error: invalid partition specified: nosuch\n")
        sys.stderr.flush()
    return ERRORS.get(fate, (0, ""))


def next_id() -> int:
    """Count the calls."""
    return 4710 + len((FOLDER / "calls").read_text().splitlines())
