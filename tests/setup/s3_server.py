"""A server that speaks S3 in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def make(program: Path, packages: Sequence[str]) -> None:
    """Install *packages*, so that *program* (…/bin/moto_server) is there.

    Raises:
        subprocess.CalledProcessError: The environment or the installation failed.
    """
    folder = program.parents[1]
    mark = folder / ".installed"
    wanted = "\n".join(packages)
    if program.exists() and mark.exists() and mark.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
    mark.write_text(wanted)
