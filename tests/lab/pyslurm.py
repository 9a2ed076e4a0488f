"""A real pyslurm, where there is one for the Slurm of this machine."""

from __future__ import annotations

import os
import sys

from tests.lab.processes import run
from tests.lab.slurm import Slurm

_LOOK = "import pyslurm; print(pyslurm.__version__)"
_LOOK_FOR_OLD = "import pyslurm; pyslurm.job; pyslurm.slurm_kill_job"


def python() -> str:
    """Return the Python that may have it: SHIPWAY_LAB_PYSLURM_PYTHON, or the one that runs the tests."""
    return os.environ.get("SHIPWAY_LAB_PYSLURM_PYTHON", sys.executable)


def missing(slurm: Slurm) -> list[str]:
    """Return what is missing for using it with *slurm*."""
    found = run([python(), "-I", "-c", _LOOK], environment=slurm.environment, check=False)
    release = slurm.run(["sbatch", "--version"]).stdout.split()[-1]
    wanted = [int(part) for part in release.split(".")[:2]]
    have = found.stdout.strip().split(".")[:2]
    fits = found.returncode == 0 and [int(part) for part in have] == wanted
    return [] if fits else [f"pyslurm {wanted[0]}.{wanted[1]}"]


def has_old_interface(slurm: Slurm) -> bool:
    """Say whether it can still be used as releases up to 20.11 had to be."""
    argv = [python(), "-I", "-c", _LOOK_FOR_OLD]
    return run(argv, environment=slurm.environment, check=False).returncode == 0
