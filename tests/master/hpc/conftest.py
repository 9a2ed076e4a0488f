"""A launcher that tests move by hand, and a master that uses it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.master.asking import eventually
from tests.master.hpc.jobs import has_pool
from tests.master.hpc.standin import StandInLauncher
from tests.master.running import MasterUnderTest, Prepared, master_running


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncGenerator[StandInLauncher]:
    """Run a launcher."""
    standin = StandInLauncher(tmp_path / "token")
    async with standin.running():
        yield standin


@pytest.fixture
async def site(
    prepared: Prepared, tmp_path: Path, launcher: StandInLauncher
) -> AsyncGenerator[MasterUnderTest]:
    """Run a master with agents and, beside them, the launcher."""
    more = [{"resource_manager": launcher.config()}]
    async with master_running(
        prepared, tmp_path / "data", additional_resource_managers=more
    ) as master:
        await eventually(lambda: has_pool(master))
        yield master
