"""A master and its database for the tests of checkpoints."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from shipway_master.store.database import Database, opened
from tests.master.running import MasterUnderTest


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the database beside the master."""
    async with opened(master.database_url) as database:
        yield database
