"""A relay, and GPUs that a stand-in driver library speaks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agent.job.stand_in import StandInRelay
from tests.agent.profiler.driver import Driver, compile_library


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def driver(library: Path, tmp_path: Path) -> Driver:
    return Driver(library, tmp_path / "state")


@pytest.fixture
async def relay() -> AsyncIterator[StandInRelay]:
    async with StandInRelay() as relay:
        yield relay
