"""The services are tried on both databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.master.conftest import PreparedPostgres
from tests.master.running import MasterUnderTest, Prepared, master_running


@pytest.fixture(params=["sqlite", "postgresql"])
def origin(request: pytest.FixtureRequest) -> Iterator[tuple[Prepared, dict[str, Any]]]:
    """What a master is started from, and its settings: on each database in turn."""
    if request.param == "sqlite":
        yield request.getfixturevalue("prepared"), {}
        return
    postgres: PreparedPostgres = request.getfixturevalue("postgres")
    url = postgres.server.make_database(like=postgres.url)
    yield postgres.prepared, {"db": {"url": url}}
    postgres.server.forget_database(url)


@pytest.fixture
async def master(
    origin: tuple[Prepared, dict[str, Any]], tmp_path: Path
) -> AsyncGenerator[MasterUnderTest]:
    """Run a master."""
    prepared, changes = origin
    async with master_running(prepared, tmp_path / "data", **changes) as running:
        yield running
