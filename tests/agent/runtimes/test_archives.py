"""Archives: what is unpacked where, and what of it is bound."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.archives import plan_bindings, tar_of, unpack
from shipway_agent.runtimes.spec import Archive, ArchiveItem, ItemKind


def file(path: str, content: bytes = b"", mode: int = 0o644) -> ArchiveItem:
    """Make a regular file."""
    return ArchiveItem(path=path, kind=ItemKind.FILE, content=content, mode=mode, mtime=1000)


def folder(path: str, mode: int = 0o755) -> ArchiveItem:
    """Make a folder."""
    return ArchiveItem(path=path, kind=ItemKind.DIRECTORY, mode=mode, mtime=1000)


def link(path: str, to: str) -> ArchiveItem:
    """Make a symlink."""
    return ArchiveItem(path=path, kind=ItemKind.SYMLINK, content=to.encode())


def test_a_tar_has_the_items_as_they_are_and_nothing_else() -> None:
    items = (folder("/run/determined", 0o700), file("a b\n'", b"\0\xff", 0o744), link("l", "/x"))
    with tarfile.open(fileobj=io.BytesIO(tar_of(Archive(path="/", items=items)))) as tar:
        members = tar.getmembers()
        content = tar.extractfile(members[1])
        assert content is not None
        assert content.read() == b"\0\xff"
    assert [(m.name, m.type, m.mode, m.linkname) for m in members] == [
        ("/run/determined", tarfile.DIRTYPE, 0o700, ""),
        ("a b\n'", tarfile.REGTYPE, 0o744, ""),
        ("l", tarfile.SYMTYPE, 0o644, "/x"),
    ]


def test_unpacked_files_have_mode_and_time_and_later_archives_win(tmp_path: Path) -> None:
    unpack(
        [
            Archive(path="/", items=(folder("//a//", 0o500), file("/a/./b", b"1", 0o600))),
            Archive(
                path="/a/", items=(file("b", b"2", 0o4755), file("c/d"), link("e", "/nowhere"))
            ),
        ],
        tmp_path,
    )
    assert (tmp_path / "a/b").read_bytes() == b"2"
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o4755
    assert (tmp_path / "a/b").stat().st_mtime == 1000
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o500
    assert (tmp_path / "a").stat().st_mtime == 1000
    assert stat.S_IMODE((tmp_path / "a/c").stat().st_mode) == 0o755
    assert os.readlink(tmp_path / "a/e") == "/nowhere"
    (tmp_path / "a").chmod(0o700)


@pytest.mark.parametrize(
    "items",
    [
        (file("../outside"),),
        (file("a/../../outside"),),
        (link("a", "/tmp"), file("a/outside")),
        (file("a"), file("a/b")),
        (folder("a"), file("a")),
    ],
    ids=["dots", "dots-inside", "through-a-link", "through-a-file", "over-a-folder"],
)
def test_an_item_that_leads_astray_is_refused(
    tmp_path: Path, items: tuple[ArchiveItem, ...]
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(SpecUnsupported, match="archive item"):
        unpack([Archive(path="/", items=items)], root)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    root = tmp_path / "root"
    root.mkdir()
    unpack([Archive(path="/", items=(link("a", str(target)), file("a", b"new")))], root)
    assert target.read_text() == "kept"
    assert (root / "a").read_bytes() == b"new"
    assert not (root / "a").is_symlink()


def test_the_deepest_of_its_own_is_bound(tmp_path: Path) -> None:
    for path in ("run/determined/workdir", "opt/determined/wheels", "etc/ssh", "usr/local/bin"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "etc/ssh/ssh_config").touch()
    (tmp_path / "usr/local/bin/tool").touch()
    (tmp_path / "determined_local_fs").mkdir()
    (tmp_path / "opt/link").symlink_to("/x")
    found = {(b.target, b.is_link) for b in plan_bindings(tmp_path)}
    assert found == {
        ("/run/determined", False),
        ("/opt/determined", False),
        ("/opt/link", True),
        ("/etc/ssh/ssh_config", False),
        ("/usr/local/bin/tool", False),
        ("/determined_local_fs", False),
    }
    deeper = {b.target for b in plan_bindings(tmp_path, lambda path: path == "/opt/determined")}
    assert "/opt/determined/wheels" in deeper
