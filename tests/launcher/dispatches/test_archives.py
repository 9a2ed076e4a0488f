"""Archives become a tree inside the dispatch's folder, and nothing outside of it."""

from __future__ import annotations

import base64
import gzip
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from shipway_launcher.dispatches.archives import read_archives
from shipway_launcher.errors import TooLarge, WrongRequest
from shipway_launcher.transport.tree import Entry, Kind, install_tree, remove_tree
from shipway_launcher.transport.wire import pack, unpack
from tests.launcher.manifests import header, make_archive

LIMIT = 1 << 20


def test_a_trials_archives_become_one_tree(tmp_path: Path) -> None:
    first = make_archive(
        ("///determined_local_fs/dispatcher-wrapper.sh", b"#!/bin/bash\n", 0o700),
        header("///run/determined", tarfile.DIRTYPE, mode=0o700),
        header("///run/determined/info", tarfile.SYMTYPE, target="///determined/info"),
    )
    second = make_archive(
        header("/determined_local_fs///run/determined", tarfile.DIRTYPE, mode=0o700),
        header("/run/determined", tarfile.DIRTYPE, mode=0o750),
        ("/run/determined/ship-logs.sh", b"ship", 0o755),
        ("///run/determined/ssh/id_rsa", b"key", 0o600),
        ("/run/determined/empty", b"", 0o644),
    )
    folder = tmp_path / "user" / "job"
    install_tree(folder, read_archives([first, second], limit_bytes=LIMIT))
    run = folder / "run/determined"
    assert os.readlink(run / "info") == "///determined/info"
    assert (run / "ship-logs.sh").read_bytes() == b"ship"
    modes = {
        str(path.relative_to(folder)): path.lstat().st_mode & 0o777
        for path in (run, run / "ssh/id_rsa", folder / "determined_local_fs/dispatcher-wrapper.sh")
    }
    assert modes == {
        "run/determined": 0o750,
        "run/determined/ssh/id_rsa": 0o600,
        "determined_local_fs/dispatcher-wrapper.sh": 0o700,
    }
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_comes_again_replaces_the_first(tmp_path: Path) -> None:
    archives = [make_archive(("a/b", b"1", 0o600)), make_archive(("a/b", b"2", 0o755))]
    install_tree(tmp_path / "u" / "job", read_archives(archives, limit_bytes=LIMIT))
    path = tmp_path / "u" / "job" / "a/b"
    assert path.read_bytes() == b"2"
    assert path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(make_archive(("../x", b"", 0o600)), id="dot-dot"),
        pytest.param(make_archive(("a/../../x", b"", 0o600)), id="dot-dot-inside"),
        pytest.param(
            make_archive(header("l", tarfile.LNKTYPE, target="/etc/passwd")), id="hard-link"
        ),
        pytest.param(make_archive(header("d", tarfile.CHRTYPE)), id="device"),
        pytest.param(make_archive(header("p", tarfile.FIFOTYPE)), id="pipe"),
        pytest.param(
            make_archive(header("l", tarfile.SYMTYPE, target="/tmp"), ("l/x", b"", 0o600)),
            id="below-a-link",
        ),
        pytest.param(
            make_archive(("l/x", b"", 0o600), header("l", tarfile.SYMTYPE, target="/tmp")),
            id="link-over-a-folder",
        ),
        pytest.param(
            make_archive(("f", b"", 0o600), header("f", tarfile.DIRTYPE)), id="folder-over-a-file"
        ),
        pytest.param("no base64!", id="no-base64"),
        pytest.param(base64.b64encode(b"no gzip").decode(), id="no-gzip"),
        pytest.param(base64.b64encode(gzip.compress(b"no tar" * 200)).decode(), id="no-tar"),
        pytest.param(
            base64.b64encode(
                base64.b64decode(make_archive(("f", b"x" * 9000, 0o600)))[:-20]
            ).decode(),
            id="cut-off",
        ),
    ],
)
def test_what_must_not_be_is_refused(archive: str) -> None:
    with pytest.raises(WrongRequest, match=r"custom\.Archives\.1"):
        read_archives([make_archive(), archive], limit_bytes=LIMIT)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = make_archive(("zeros", bytes(8 << 20), 0o600))
    assert len(bomb) < 20000
    with pytest.raises(TooLarge, match="1 MiB"):
        read_archives([bomb], limit_bytes=LIMIT)
    with pytest.raises(TooLarge, match="1 MiB"):
        read_archives([make_archive(("x", bytes(700 << 10), 0o600))] * 2, limit_bytes=LIMIT)


def test_installing_goes_through_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    entries = [
        Entry(path="l", kind=Kind.LINK, content=bytes(outside)),
        Entry(path="l/x", kind=Kind.FILE, content=b"caught"),
    ]
    with pytest.raises(OSError, match="l"):
        install_tree(tmp_path / "u" / "job", entries)
    assert list(outside.iterdir()) == []


def test_nothing_is_installed_over_something_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "job").symlink_to(tmp_path)
    with pytest.raises(FileExistsError):
        install_tree(tmp_path / "u" / "job", [])


def test_removing_follows_no_link_and_opens_closed_folders(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    tree = tmp_path / "tree"
    (tree / "closed/deep").mkdir(parents=True)
    (tree / "closed/deep/file").touch()
    (tree / "closed/link").symlink_to(outside)
    (tree / "top").symlink_to(outside / "precious")
    (tree / "closed/deep").chmod(0)
    (tree / "closed").chmod(0o500)
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "precious").exists()
    remove_tree(tree)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_removing_does_not_cross_a_mount(tmp_path: Path) -> None:
    inside = tmp_path / "tree/mounted"
    inside.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inside], check=True)
    try:
        (inside / "precious").touch()
        with pytest.raises(OSError, match="mounted"):
            remove_tree(tmp_path / "tree")
        assert (inside / "precious").exists()
    finally:
        subprocess.run(["umount", inside], check=True)


def test_a_tree_survives_its_way_to_the_helper() -> None:
    entries = [
        Entry(path="d", kind=Kind.FOLDER, mode=0o700),
        Entry(path="d/día\udcff", kind=Kind.FILE, mode=0o640, content=b"\0\xff" * 3000),
        Entry(path="d/" + "x" * 200 + "/empty", kind=Kind.FILE, mode=0o600),
        Entry(path="l", kind=Kind.LINK, content=b"///determined/\xff"),
    ]
    found = unpack(pack(entries))
    assert [(one.path, one.kind, one.content) for one in found] == [
        (one.path, one.kind, one.content) for one in entries
    ]
    assert [one.mode for one in found[:3]] == [0o700, 0o640, 0o600]
