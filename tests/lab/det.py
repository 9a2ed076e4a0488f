"""The stock `det` command: an unmodified `determined` from PyPI in a virtual environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.lab.processes import run

VERSION = "0.38.1"
_REPOSITORY = Path(__file__).parents[2]


def program() -> Path:
    """Return where `det` is, or would be: in .venv-det of the repository or $SHIPWAY_DET_VENV."""
    folder = Path(os.environ.get("SHIPWAY_DET_VENV") or _REPOSITORY / ".venv-det")
    return folder / "bin/det"


class Det:
    """One person's `det`, with a home of its own for what log-in remembers."""

    def __init__(self, home: Path, *, master: str, user: str, password: str) -> None:
        """Talk to *master* (a URL) as *user*."""
        self._home = home
        self.environment = {
            "DET_MASTER": master,
            "DET_USER": user,
            "DET_PASS": password,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "COLUMNS": "250",  # tables are cut to the terminal's width
            "NO_COLOR": "1",
        }

    def run(
        self, *arguments: str, limit_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `det ARGUMENTS`; an exit status other than 0 raises LabError unless *check* is off."""
        return run(
            [program(), *arguments],
            environment=self.environment,
            limit_s=limit_s,
            check=check,
            folder=self._home,
        )

    def run_several(self, *commands: Sequence[str], limit_s: float = 100) -> list[tuple[int, str]]:
        """Run some `det ARGUMENTS` in one process; return exit status and output of each.

        The output has both streams in it, but not what programs write that the client starts.
        """
        script = Path(__file__).with_name("severaldet.py")
        answer = run(
            [program().with_name("python"), str(script), json.dumps(commands)],
            environment=self.environment,
            limit_s=limit_s,
            folder=self._home,
        )
        return [(status, output) for status, output in json.loads(answer.stdout)]

    def run_python(
        self, script: Path, *arguments: str, limit_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a script that uses the SDK; an exit status other than 0 raises LabError."""
        return run(
            [program().with_name("python"), script, *arguments],
            environment=self.environment,
            limit_s=limit_s,
            folder=self._home,
        )

    def start(self, *arguments: str, output: Path) -> subprocess.Popen[bytes]:
        """Start `det ARGUMENTS` and let it run, its stdout and stderr in the file *output*."""
        with output.open("wb") as stream:
            return subprocess.Popen(
                [str(program()), *arguments],
                env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
