"""A launcher in front of the lab's PBS."""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Iterator

import pytest

from tests.lab.folders import new_folder
from tests.lab.pbs import Pbs
from tests.lab.shipway import Launcher
from tests.launcher.go_master import GoMaster


@pytest.fixture(scope="module")
def pbs() -> Iterator[Pbs]:
    """A private PBS with four hosts of four GPUs."""
    with Pbs(new_folder("pbs")) as complex_:
        yield complex_


@pytest.fixture(scope="module")
def launcher(pbs: Pbs) -> Iterator[Launcher]:
    """A launcher that watches twice a second, so that tests need not wait."""
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment={},
        config={
            "workload_manager": "pbs",
            "pbs": {"bin_dir": str(pbs.bin_dir), "options": ["-l walltime=01:00:00"]},
            "watch": {"interval_s": 0.5, "missing_after_s": 2, "kill_after_s": 3},
        },
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        pbs.clear()
        shutil.rmtree(folder)


@pytest.fixture
def master(launcher: Launcher) -> GoMaster:
    """The Go master's way of using the launcher."""
    return GoMaster(launcher.url, launcher.token_file)
