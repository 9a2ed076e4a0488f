"""A database and a log book."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from shipway_master.logbook import LogBook
from shipway_master.store.database import Database, opened
from tests.master.running import Prepared


@pytest.fixture
async def database(prepared: Prepared, tmp_path: Path) -> AsyncGenerator[Database]:
    """Open the database of a master."""
    shutil.copytree(prepared.folder, tmp_path / "data")
    async with opened(f"sqlite:///{tmp_path / 'data' / 'master.db'}") as database:
        yield database


@pytest.fixture
async def book(database: Database) -> AsyncGenerator[LogBook]:
    """Open a log book on it."""
    async with LogBook(database) as book:
        yield book
