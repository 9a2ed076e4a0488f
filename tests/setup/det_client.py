"""The stock `det` client in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def make(program: Path, version: str) -> None:
    """Install `determined` *version*, unmodified, so that *program* (…/bin/det) is there.

    Raises:
        subprocess.CalledProcessError: The environment or the installation failed.
    """
    folder = program.parents[1]
    mark = folder / f".determined-{version}"
    if mark.exists() and program.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    subprocess.run(
        [folder / "bin/python", "-m", "pip", "install", "-q", f"determined=={version}"], check=True
    )
    mark.touch()
