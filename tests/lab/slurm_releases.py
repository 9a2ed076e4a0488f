"""Newer releases of Slurm, which the set-up keeps in small Debians of their own."""

from __future__ import annotations

from pathlib import Path

from tests.lab.apptainer import cache_folder
from tests.lab.slurm import PROGRAMS

SUITES = ("trixie", "sid")
"""Debian's releases from which they are: 24.11, and what is the newest there is."""
ALL_PROGRAMS = (*PROGRAMS, "scontrol", "sacct")


def release_folder(suite: str) -> Path:
    """Return where the set-up keeps the Slurm of one of Debian's releases."""
    return cache_folder() / f"slurm-{suite}"


def missing_programs(suite: str) -> list[str]:
    """Return which of its programs are missing."""
    folder = release_folder(suite) / "bin"
    return [str(folder / name) for name in ALL_PROGRAMS if not (folder / name).exists()]
