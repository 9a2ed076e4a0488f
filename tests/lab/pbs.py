"""A private PBS, which is a stand-in: no distribution that we test on packages OpenPBS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lab.folders import remove_folder
from tests.lab.processes import wait_until

STAND_IN = Path(__file__).with_name("pbs_stand_in.py")
COMMANDS = ("qsub", "qstat", "qdel", "qsig", "pbsnodes", "pbs_tmrsh")


class Pbs:
    """One complex: hosts n1 to n4 with 8 CPUs and 4 GPUs each; queues workq (default) and gpuq."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin_dir = folder / "bin"

    def __enter__(self) -> Pbs:
        self.bin_dir.mkdir()
        program = f"#!{sys.executable} -IS\n{STAND_IN.read_text()}"
        for name in COMMANDS:
            (self.bin_dir / name).write_text(program)
            (self.bin_dir / name).chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        remove_folder(self.folder)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of its commands."""
        return subprocess.run(
            [self.bin_dir / words[0], *words[1:]],
            env={"PATH": os.environ["PATH"], "LOGNAME": "root"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return what the server knows of its jobs."""
        path = self.folder / "state.json"
        state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"jobs": {}}
        jobs: dict[str, dict[str, Any]] = state["jobs"]
        return jobs

    def set_mood(self, name: str, *, is_on: bool = True) -> None:
        """Switch a mood of the site on or off: `down`, `mute`, `no-history`."""
        if is_on:
            (self.folder / name).touch()
        else:
            (self.folder / name).unlink(missing_ok=True)

    def living(self) -> list[str]:
        """Return the jobs that have not ended."""
        return [name for name, job in self.jobs().items() if job["job_state"] != "F"]

    def clear(self) -> None:
        """End all jobs."""
        for mood in ("down", "mute", "no-history"):
            self.set_mood(mood, is_on=False)
        if living := self.living():
            self.run("qdel", *living)
            self.run("qsig", "-s", "SIGKILL", *living)
        wait_until(lambda: not self.living(), "all PBS jobs have ended", limit_s=60)
