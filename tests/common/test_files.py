"""A file is replaced whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shipway_common.files import find_existing, remove_leftovers, write_atomic


def test_the_new_content_has_the_wanted_mode(tmp_path: Path) -> None:
    target = tmp_path / "token"
    write_atomic(target, b"secret", mode=0o600)
    assert target.read_bytes() == b"secret"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_failed_write_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "state"
    write_atomic(target, b"old")

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "file", b"")


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "kept.json", b"{}")
    for name in (".kept.json.ab_cd012", ".hidden", ".kept.json.longer-than-that", "x.ab_cd012"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"kept.json", ".hidden", ".kept.json.longer-than-that", "x.ab_cd012"}


def test_a_path_that_cannot_be_looked_at_is_not_there(tmp_path: Path) -> None:
    too_long = tmp_path / ("x" * 300) / "y"
    with pytest.raises(OSError, match="too long"):  # as in a folder that is closed to this user
        too_long.exists()
    assert find_existing(too_long) == tmp_path
