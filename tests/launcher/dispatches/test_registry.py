"""The set of dispatches across restarts, and a disk that does not do its part."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from shipway_launcher.dispatches.record import Dispatch, Submission
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.errors import NotFound, SetupError, StorageError
from shipway_launcher.transport.tree import make_root
from tests.launcher.dispatches.test_outcome import make_dispatch


@pytest.fixture
def store(tmp_path: Path) -> DispatchStore:
    found = DispatchStore(tmp_path / "root")
    found.open()
    return found


async def reload(store: DispatchStore, *dispatches: Dispatch) -> Registry:
    first = Registry(store)
    for dispatch in dispatches:
        await first.add(dispatch, b"{}")
    second = Registry(store)
    await second.load()
    return second


@pytest.mark.parametrize(
    ("before", "after", "state"),
    [
        (Submission.PREPARING, Submission.REFUSED, DispatchState.FAILED),
        (Submission.SUBMITTING, Submission.DOUBTFUL, DispatchState.PENDING),
        (Submission.DOUBTFUL, Submission.DOUBTFUL, DispatchState.PENDING),
        (Submission.SUBMITTED, Submission.SUBMITTED, DispatchState.PENDING),
    ],
)
async def test_an_unfinished_submission_after_a_restart(
    store: DispatchStore, before: Submission, after: Submission, state: DispatchState
) -> None:
    dispatch = make_dispatch(state=DispatchState.PENDING, submission=before, job_id=None)
    (found,) = (await reload(store, dispatch)).all()
    assert (found.submission, found.state) == (after, state)
    (again,) = (await reload(store)).all()
    assert again == found, "what it means now is on disk as well"


async def test_a_record_that_cannot_be_read_does_not_hide_the_others(
    store: DispatchStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = make_dispatch(id="bad.1")
    registry = await reload(store, make_dispatch(), bad)
    (tmp_path / "root/dispatches/bad.1/record.json").write_bytes(b"{")
    assert len(registry.all()) == 2
    assert [found.id for found in (await reload(store)).all()] == ["9d0c.1"]
    assert "bad.1/record.json" in str(caplog.records[0].__dict__)


async def test_a_change_is_on_disk_before_it_is_seen(store: DispatchStore, tmp_path: Path) -> None:
    registry = await reload(store, make_dispatch())
    folder = tmp_path / "root/dispatches/9d0c.1"
    hidden = folder.rename(folder.with_name("hidden"))
    with pytest.raises(StorageError, match="cannot be written"):
        await registry.update(make_dispatch().id, lambda found: replace(found, digest="new"))
    assert registry.all()[0].digest == "0"
    hidden.rename(folder)
    await registry.update(make_dispatch().id, lambda found: replace(found, digest="new"))
    assert (await reload(store)).all()[0].digest == "new"


async def test_what_was_removed_is_gone(store: DispatchStore, tmp_path: Path) -> None:
    registry = await reload(store, make_dispatch())
    assert registry.get("alice", "9d0c.1").id == "9d0c.1"
    for owner, name in (("bob", "9d0c.1"), ("alice", "other")):
        with pytest.raises(NotFound):
            registry.get(owner, name)
    await registry.remove(make_dispatch().id)
    with pytest.raises(NotFound):
        registry.get("alice", "9d0c.1")
    assert list((tmp_path / "root/dispatches").iterdir()) == []


def test_folders_are_closed_to_others(tmp_path: Path) -> None:
    root = tmp_path / "root"
    jobs = root / "jobs/environments"
    DispatchStore(root).open()
    assert (root / "dispatches").stat().st_mode & 0o777 == 0o700
    make_root(root, jobs, is_shared=False)
    assert jobs.stat().st_mode & 0o7777 == 0o755
    make_root(root, jobs, is_shared=True)
    assert jobs.stat().st_mode & 0o7777 == 0o1777
    root.chmod(0o777)
    with pytest.raises(SetupError, match="others may write"):
        DispatchStore(root).open()
    root.chmod(0o700)
    with pytest.raises(PermissionError, match="users cannot enter"):
        make_root(root, jobs, is_shared=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_someone_else_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.chown(root, 12345, 12345)
    with pytest.raises(SetupError, match="does not belong"):
        DispatchStore(root).open()
