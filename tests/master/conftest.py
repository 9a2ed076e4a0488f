"""Fixtures of the master's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.master.running import MasterUnderTest, Prepared, master_running, prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Get the data folder of a master that has been started before."""
    return asyncio.run(prepare(tmp_path_factory.mktemp("prepared")))


@pytest.fixture
async def master(prepared: Prepared, tmp_path: Path) -> AsyncGenerator[MasterUnderTest]:
    """Run a master."""
    async with master_running(prepared, tmp_path / "data") as running:
        yield running
