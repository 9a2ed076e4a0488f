"""The services of the lab as fixtures: each started once per test run, and only if a test asks."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import apptainer as apptainer_lab
from tests.lab import det as det_lab
from tests.lab import docker as docker_lab
from tests.lab import enroot as enroot_lab
from tests.lab import podman as podman_lab
from tests.lab import s3 as s3_lab
from tests.lab import slurm as slurm_lab
from tests.lab.apptainer import Apptainer
from tests.lab.det import Det
from tests.lab.docker import Docker
from tests.lab.enroot import Enroot
from tests.lab.folders import new_folder, remove_leftovers
from tests.lab.networks import Bridge
from tests.lab.podman import Podman
from tests.lab.require import require
from tests.lab.s3 import S3
from tests.lab.slurm import Slurm

_SERVICES = ("slurm", "docker", "podman", "apptainer", "enroot", "det")


def pytest_sessionstart() -> None:
    """Make TERM end the run as Ctrl-C does, services included; see to what others left."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    remove_leftovers()
    Bridge.remove_leftovers()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the services it asks for, so that `-m "not docker"` works."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if name in _SERVICES:
                item.add_marker(name)


def pytest_collection_finish() -> None:
    """Spare the collector of garbage what stays to the end: thousands of tests and all they import."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A private Slurm with four nodes of four fake GPUs; tests leave no jobs behind in it."""
    require("Slurm", slurm_lab.missing_programs())
    with Slurm(new_folder("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """A private Docker engine with the image `docker.image`."""
    require("Docker", docker_lab.missing_programs())
    with Docker(new_folder("docker")) as engine:
        yield engine


@pytest.fixture(scope="session")
def podman() -> Iterator[Podman]:
    """A private podman with its API service and the image `podman.image`."""
    require("podman", podman_lab.missing_programs())
    with Podman(new_folder("podman")) as engine:
        yield engine


@pytest.fixture(scope="session")
def apptainer() -> Iterator[Apptainer]:
    """Apptainer (or Singularity) and an image file for it."""
    require("apptainer", apptainer_lab.missing())
    with Apptainer(new_folder("apptainer")) as runtime:
        yield runtime


@pytest.fixture(scope="session")
def enroot() -> Iterator[Enroot]:
    """Enroot, or a stand-in that follows it, and an image file for it."""
    require("enroot", enroot_lab.missing())
    with Enroot(new_folder("enroot")) as runtime:
        yield runtime


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A server that speaks S3."""
    require("S3", s3_lab.missing(), hint="run `make test`")
    with S3() as server:
        yield server


@pytest.fixture(scope="session")
def det(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Det]:
    """Make the stock client: `det(master="http://…", user="determined", password="…")`."""
    missing = [] if det_lab.program().exists() else [f"the stock client {det_lab.program()}"]
    require("the client's test", missing, hint="run `make test`")

    def make(*, master: str, user: str = "determined", password: str = "") -> Det:
        home: Path = tmp_path_factory.mktemp("det")
        return Det(home, master=master, user=user, password=password)

    return make
