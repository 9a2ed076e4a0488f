"""Launchers without Slurm and with it, and who calls them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from shipway_launcher.tokenbook import TokenBook, TokenEntry, digest_of
from shipway_launcher.tokens import new_token
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.api.calling import Caller, serving, settings_of
from tests.launcher.api.rest import Rest
from tests.launcher.conftest import running_launcher


class MakesTokens(Protocol):
    """Makes a token of a user."""

    def __call__(
        self, user: str, *, is_admin: bool = False, is_read_only: bool = False, scope: str = ""
    ) -> str: ...


@pytest.fixture
async def call(tmp_path: Path) -> AsyncIterator[Caller]:
    """Calls a launcher without Slurm, in this process, with the administrator's token."""
    async with serving(settings_of(tmp_path)) as caller:
        yield caller


@pytest.fixture(scope="package")
def launcher(slurm: Slurm) -> Iterator[Launcher]:
    """A launcher in front of the lab's Slurm, for all modules that do not have their own."""
    with running_launcher(slurm) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def rest(launcher: Launcher) -> Rest:
    """Calls a launcher in front of the lab's Slurm with the administrator's token."""
    return Rest(launcher.url, launcher.token_file.read_text())


@pytest.fixture(scope="module")
def token_of(launcher: Launcher) -> MakesTokens:
    """Make tokens of users as the command line does, in less time."""
    book = TokenBook(launcher.config.parent / "launcher")

    def make(
        user: str, *, is_admin: bool = False, is_read_only: bool = False, scope: str = ""
    ) -> str:
        made = new_token()
        book.add(
            TokenEntry(
                digest=digest_of(made),
                user=user,
                is_admin=is_admin,
                is_read_only=is_read_only,
                scope=scope,
                created_at=datetime.now(UTC),
            )
        )
        return made

    return make
