"""A database with its first users and project, without a master on it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from shipway_master.auth import Principal
from shipway_master.store.database import Database, opened
from tests.master.running import USER_ID, Prepared, make_config


@pytest.fixture
async def database(prepared: Prepared, tmp_path: Path) -> AsyncGenerator[Database]:
    """Open a copy of the database of a master that was started once."""
    folder = tmp_path / "data"
    shutil.copytree(prepared.folder, folder)
    async with opened(make_config(folder).db.resolve_url(folder)) as database:
        yield database


@pytest.fixture
def owner() -> Principal:
    """Get whoever owns what the builders make."""
    return Principal(user_id=USER_ID, username="determined", is_admin=False)


@pytest.fixture
def stranger() -> Principal:
    """Get somebody else, who is no administrator."""
    return Principal(user_id=99, username="stranger", is_admin=False)
