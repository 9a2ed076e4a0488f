"""A launcher without Slurm, and who calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.launcher.api.calling import Caller, serving, settings_of


@pytest.fixture
async def call(tmp_path: Path) -> AsyncIterator[Caller]:
    """Calls with the administrator's token."""
    async with serving(settings_of(tmp_path)) as caller:
        yield caller
