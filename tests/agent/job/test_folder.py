"""A job's own folder, and what others leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipway_agent.job.folder import copy_tree, job_folder


def test_the_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    with job_folder(tmp_path) as folder:
        (folder / "a/b").mkdir(parents=True)
        (folder / "a/b/file").write_text("x")
        (folder / "a/b").chmod(0o500)
        (folder / "link").symlink_to(outside)
    assert list(tmp_path.iterdir()) == [outside]
    assert outside.stat().st_mode & 0o777 == 0o755


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    with job_folder(tmp_path) as first, job_folder(tmp_path) as second:
        assert first.exists()
        assert second.exists()


def test_a_folder_that_nobody_holds_is_removed(tmp_path: Path) -> None:
    with job_folder(tmp_path) as first:
        pass
    first.mkdir()
    (first / "lock").touch()
    with job_folder(tmp_path):
        assert not first.exists()


def test_a_copy_has_the_modes_and_the_links(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True, mode=0o700)
    (source / "run.sh").write_text("x")
    (source / "run.sh").chmod(0o744)
    (source / "link").symlink_to("/etc/passwd")
    copy_tree(source, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert (copy / "run.sh").stat().st_mode & 0o777 == 0o744
    assert (copy / "closed").stat().st_mode & 0o777 == 0o700
    assert (copy / "link").readlink() == Path("/etc/passwd")


def test_a_parent_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such"), job_folder(tmp_path / "no-such"):
        pass
