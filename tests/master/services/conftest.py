"""The services are tried on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedPostgres]:
    """Run a server."""
    require("PostgreSQL", lab.missing())
    with Postgres() as server:
        url = server.make_database()
        folder = tmp_path_factory.mktemp("prepared-postgres")
        prepared = asyncio.run(prepare(folder, db={"url": url}))
        yield PreparedPostgres(server, prepared, url)


@pytest.fixture(params=["sqlite", "postgresql"])
def origin(request: pytest.FixtureRequest) -> tuple[Prepared, dict[str, Any]]:
    """What a master is started from, and its settings: on each database in turn."""
    if request.param == "sqlite":
        return request.getfixturevalue("prepared"), {}
    postgres: PreparedPostgres = request.getfixturevalue("postgres")
    return postgres.prepared, {"db": {"url": postgres.server.make_database(like=postgres.url)}}


@pytest.fixture
async def master(
    origin: tuple[Prepared, dict[str, Any]], tmp_path: Path
) -> AsyncGenerator[MasterUnderTest]:
    """Run a master."""
    prepared, changes = origin
    async with master_running(prepared, tmp_path / "data", **changes) as running:
        yield running
