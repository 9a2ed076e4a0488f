"""A launcher in front of the lab's Slurm, and a client that behaves as the Go master does."""

from __future__ import annotations

import getpass
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.folders import new_folder
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster

_numbers = itertools.count(1)


@contextmanager
def running_launcher(slurm: Slurm) -> Iterator[Launcher]:
    """Run a launcher that watches twice a second, so that tests need not wait."""
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={
            "watch": {"interval_s": 0.5, "missing_after_s": 2, "kill_after_s": 3},
            "limits": {"body_mib": 2},
        },
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        slurm.clear()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def launcher(slurm: Slurm) -> Iterator[Launcher]:
    """A launcher in front of the lab's Slurm."""
    with running_launcher(slurm) as daemon:
        yield daemon


@pytest.fixture
def master(launcher: Launcher) -> GoMaster:
    """The Go master's way of using the launcher."""
    return GoMaster(launcher.url, launcher.token_file)


@pytest.fixture
def new_id(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Make dispatch ids that no other test has used."""
    return lambda: f"{request.node.name[:40].replace('[', '_').replace(']', '')}.{next(_numbers)}"


@pytest.fixture
def user() -> str:
    """Who runs the tests."""
    return getpass.getuser()


@pytest.fixture
def storage(launcher: Launcher) -> Path:
    """The launcher's job_storage_root."""
    return launcher.config.parent / "launcher"
