"""The data folder: held by one master."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from shipway_master.errors import CannotStart
from shipway_master.folder import held


def test_the_second_is_told_who_the_first_is(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with (
        held(folder),
        pytest.raises(CannotStart, match=f"b is in use .*process {os.getpid()}\\)"),
        held(folder),
    ):
        pass

    with held(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "lock").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match=r"the data folder .*file"), held(tmp_path / "file"):
        pytest.fail("it has one")
