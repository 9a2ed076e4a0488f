"""What is removed by itself, and when."""

from __future__ import annotations

import getpass
from datetime import timedelta
from pathlib import Path

from shipway_launcher.backends import make_slurm
from shipway_launcher.config import load_settings
from shipway_launcher.dispatches.end import Ender
from shipway_launcher.dispatches.files import job_folder
from shipway_launcher.dispatches.follow import Follower
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.vanished import Patience
from shipway_launcher.users import Users
from shipway_launcher.watch import Watch
from tests.launcher.dispatches.test_outcome import make_dispatch


def make_ended(name: str, age: timedelta, *, state: str, submission: Submission) -> Dispatch:
    return make_dispatch(
        id=DispatchId(name),
        owner=getpass.getuser(),
        state=DispatchState(state),
        submission=submission,
        updated_at=now() - age,
    )


async def test_old_dispatches_go_with_their_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = DispatchStore(root)
    store.open()
    registry = Registry(store)
    users = Users(load_settings(flags={"job_storage_root": str(root)}))
    slurm = make_slurm(load_settings(), users)
    patience = Patience(missing_after_s=9, unanswered_after_s=9)
    follower = Follower(registry, slurm, users, root=root, patience=patience, kill_after_s=9)
    watch = Watch(slurm, follower.follow, is_needed=follower.is_needed, interval_s=60)
    ender = Ender(registry, slurm, users, watch, follower, root=root)
    minutes, days = timedelta(minutes=1), timedelta(days=1)
    refused, submitted = Submission.REFUSED, Submission.SUBMITTED
    for dispatch in (
        make_ended("refused-long-ago", 31 * minutes, state="FAILED", submission=refused),
        make_ended("refused-just-now", 29 * minutes, state="FAILED", submission=refused),
        make_ended("ended-long-ago", 8 * days, state="COMPLETED", submission=submitted),
        make_ended("ended-lately", 6 * days, state="MISSING", submission=submitted),
        make_ended("still-running", 99 * days, state="RUNNING", submission=submitted),
    ):
        await registry.add(dispatch, b"{}")
        folder = job_folder(root, dispatch.owner, dispatch.id)
        folder.mkdir(parents=True)
        (folder / "task.json").touch()
    await ender.expire(keep_ended=7 * days, keep_refused=30 * minutes)
    kept = {"refused-just-now", "ended-lately", "still-running"}
    assert {dispatch.id for dispatch in registry.all()} == kept
    assert {path.name for path in (root / "dispatches").iterdir()} == kept
    assert {path.name for path in job_folder(root, getpass.getuser(), "x").parent.iterdir()} == kept
