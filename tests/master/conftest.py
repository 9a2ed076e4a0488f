"""Fixtures of the master's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import postgres as lab
from tests.lab.postgres import Postgres
from tests.lab.require import require
from tests.master.running import MasterUnderTest, Prepared, master_running, prepare


@dataclass(frozen=True)
class PreparedPostgres:
    """A server with the database of a master that was started once; copying it is quicker."""

    server: Postgres
    prepared: Prepared
    url: str


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Get the data folder of a master that has been started before."""
    return asyncio.run(prepare(tmp_path_factory.mktemp("prepared")))


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedPostgres]:
    """Run a server."""
    require("PostgreSQL", lab.missing())
    with Postgres() as server:
        url = server.make_database()
        folder = tmp_path_factory.mktemp("prepared-postgres")
        prepared = asyncio.run(prepare(folder, db={"url": url}))
        yield PreparedPostgres(server, prepared, url)


@pytest.fixture
async def master(prepared: Prepared, tmp_path: Path) -> AsyncGenerator[MasterUnderTest]:
    """Run a master."""
    async with master_running(prepared, tmp_path / "data") as running:
        yield running
