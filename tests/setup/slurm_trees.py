"""Newer releases of Slurm beside the machine's own, each in a small Debian that has it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from subprocess import CalledProcessError

from tests.lab.slurm_releases import ALL_PROGRAMS, SUITES, missing_programs, release_folder
from tests.setup.debian_tree import make_tree, put_program

_PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "munge")


def needed() -> list[str]:
    """Return Debian's releases whose Slurm is not there yet."""
    return [suite for suite in SUITES if missing_programs(suite)]


def make(suites: list[str]) -> dict[str, CalledProcessError]:
    """Lay trees side by side. Needs root.

    Returns:
        Why a release could not be had; the others are there.
    """
    failed: dict[str, CalledProcessError] = {}
    with ThreadPoolExecutor(len(suites)) as pool:
        for suite, making in [(suite, pool.submit(_make, suite)) for suite in suites]:
            try:
                making.result()
            except CalledProcessError as error:
                failed[suite] = error
    return failed


def _make(suite: str) -> None:
    folder = release_folder(suite)
    make_tree(folder / "root", suite, _PACKAGES)
    for name in ALL_PROGRAMS:
        put_program(folder / "bin" / name)
