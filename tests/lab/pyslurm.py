"""A real pyslurm, where there is one for the Slurm of this machine."""

from __future__ import annotations

import os
import sys

import pytest

from tests.lab.processes import run
from tests.lab.slurm import Slurm

_LOOK = "import pyslurm; print(pyslurm.__version__)"
_LOOK_FOR_OLD = "import pyslurm; pyslurm.job; pyslurm.slurm_kill_job"


def python() -> str:
    """Return the Python that may have it: SHIPWAY_LAB_PYSLURM_PYTHON, or the one that runs the tests."""
    return os.environ.get("SHIPWAY_LAB_PYSLURM_PYTHON", sys.executable)


def skip_without(slurm: Slurm, *, is_old: bool = False) -> None:
    """Skip the test, in CI too, where none fits *slurm*: PyPI has one for Slurm 25.11 only.

    Args:
        slurm: The cluster.
        is_old: Whether the test needs the interface of releases up to 20.11.
    """
    if not _fits(slurm):
        pytest.skip(
            "there is no pyslurm for this Slurm; name a Python that has one in"
            " SHIPWAY_LAB_PYSLURM_PYTHON"
        )
    if is_old and not _has_old_interface(slurm):
        pytest.skip("this pyslurm has no old interface")


def _fits(slurm: Slurm) -> bool:
    found = run([python(), "-I", "-c", _LOOK], environment=slurm.environment, check=False)
    release = slurm.run(["sbatch", "--version"]).stdout.split()[-1]
    wanted = [int(part) for part in release.split(".")[:2]]
    have = found.stdout.strip().split(".")[:2]
    return found.returncode == 0 and [int(part) for part in have] == wanted


def _has_old_interface(slurm: Slurm) -> bool:
    argv = [python(), "-I", "-c", _LOOK_FOR_OLD]
    return run(argv, environment=slurm.environment, check=False).returncode == 0
