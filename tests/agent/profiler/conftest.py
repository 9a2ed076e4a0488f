"""A machine with two GPUs that a stand-in driver library speaks for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.job.stand_in import StandInRelay
from tests.lab.require import require

_SOURCE = Path(__file__).with_name("data") / "fake_nvml.c"


class Driver:
    """What the stand-in library says; may change while it is read."""

    def __init__(self, library: Path, state: Path) -> None:
        self._state = state
        self.environ = {
            "LD_LIBRARY_PATH": str(library.parent),
            "FAKE_NVML": str(state),
            "PATH": os.environ["PATH"],
        }
        self.says()

    def says(self, **values: int) -> None:
        aside = self._state.with_suffix(".new")
        aside.write_text("".join(f"{key} {value}\n" for key, value in values.items()))
        aside.replace(self._state)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    require("the stand-in NVML", [] if compiler else ["gcc"])
    assert compiler
    path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-w", "-shared", "-fPIC", "-o", path, _SOURCE], check=True)
    return path


@pytest.fixture
def driver(library: Path, tmp_path: Path) -> Driver:
    return Driver(library, tmp_path / "state")


@pytest.fixture
async def relay() -> AsyncIterator[StandInRelay]:
    async with StandInRelay() as relay:
        yield relay
