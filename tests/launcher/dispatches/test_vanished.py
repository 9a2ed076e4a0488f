"""What becomes of dispatches whose jobs are no longer in Slurm's list."""

from __future__ import annotations

import getpass
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from shipway_launcher.config import load_settings
from shipway_launcher.dispatches.files import job_folder
from shipway_launcher.dispatches.follow import Follower
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.vanished import Patience
from shipway_launcher.errors import BackendUnreachable
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.rows import JobRow, SlurmJobId
from shipway_launcher.transport.base import Transport
from shipway_launcher.users import Users
from tests.launcher.dispatches.test_outcome import make_dispatch, make_row

ME = getpass.getuser()


@dataclass
class Slurm:
    """Answers what a test has put into it, and counts the questions."""

    accounting: list[JobRow] | None = field(default_factory=list[JobRow])
    """None: it does not answer."""
    seen_by: dict[str, list[JobRow]] = field(default_factory=dict[str, list[JobRow]])
    """What each user sees, beside the launcher."""
    questions: list[str] = field(default_factory=list[str])
    cancelled: list[str] = field(default_factory=list[str])

    async def jobs(self, *, user: Transport | None = None) -> list[JobRow]:
        assert user is not None
        self.questions.append(f"squeue as {user.user}")
        return self.seen_by[user.user]

    async def accounted(self, job_ids: Collection[SlurmJobId]) -> Mapping[SlurmJobId, JobRow]:
        self.questions.append("sacct")
        if self.accounting is None:
            raise BackendUnreachable("slurmdbd: Connection refused")
        return {row.id: row for row in self.accounting if row.id in job_ids}

    async def cancel(
        self, job_ids: Collection[SlurmJobId], *, user: Transport, signal: str | None = None
    ) -> None:
        self.cancelled += job_ids


class Site:
    """A launcher's followers and records, in front of that Slurm."""

    def __init__(self, root: Path) -> None:
        self.root, self.slurm, self.told = root, Slurm(), list[Dispatch]()
        store = DispatchStore(root)
        store.open()
        self.registry = Registry(store)
        flags = {"job_storage_root": str(root), "impersonation": "sudo"}
        self.users = Users(load_settings(flags=flags))
        self.follower = Follower(
            self.registry,
            cast("SlurmBackend", self.slurm),
            self.users,
            root=root,
            patience=Patience(missing_after_s=30, unanswered_after_s=600),
            kill_after_s=10,
            preempted=self.told.append,
        )

    async def add(self, name: str, **changes: Any) -> None:
        found = make_dispatch(id=DispatchId(name), **{"owner": ME, **changes})
        await self.registry.add(found, b"{}")

    def get(self, name: str) -> Dispatch:
        found = self.registry.find(name)
        assert found is not None
        return found

    async def state_after(self, name: str, rows: Sequence[JobRow] = ()) -> DispatchState:
        await self.follower.follow(rows)
        return self.get(name).state

    def leave_exit(self, name: str, text: str) -> None:
        folder = job_folder(self.root, ME, name)
        folder.mkdir(parents=True)
        (folder / "exit").write_text(text)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "root")


def long_ago(seconds: float) -> Any:
    return now() - timedelta(seconds=seconds)


async def test_many_forgotten_jobs_cost_one_question(site: Site) -> None:
    for number in range(100):
        await site.add(f"{number}.1", job_id=SlurmJobId(str(number + 1)))
    site.slurm.accounting = [
        make_row("TIMEOUT", "0:0", id=str(number + 1), user=ME) for number in range(100)
    ]
    await site.follower.follow([])
    assert site.slurm.questions == ["sacct"]
    assert {dispatch.state for dispatch in site.registry.all()} == {DispatchState.FAILED}
    assert "'TimeLimit'" in site.get("7.1").events[-1].message


async def test_accounting_knows_better_than_what_the_script_left(site: Site) -> None:
    await site.add("a.1")
    site.leave_exit("a.1", "143 7\n")
    site.slurm.accounting = [make_row("NODE_FAIL", "0:0", user=ME)]
    assert await site.state_after("a.1") is DispatchState.FAILED
    assert "'NodeFail'" in site.get("a.1").events[-1].message


async def test_what_the_script_left_counts_even_while_accounting_is_silent(site: Site) -> None:
    await site.add("a.1")
    site.leave_exit("a.1", "0 7\n")
    site.slurm.accounting = None
    assert await site.state_after("a.1") is DispatchState.COMPLETED


@pytest.mark.parametrize("left", ["0 8\n", "0 7", "x"])
async def test_a_file_that_is_not_of_this_job_counts_for_nothing(site: Site, left: str) -> None:
    await site.add("a.1")
    site.leave_exit("a.1", left)
    assert await site.state_after("a.1") is DispatchState.RUNNING


async def test_a_silent_accounting_is_waited_for(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.add("a.1", unknown_since=long_ago(60))
    site.slurm.accounting = None
    for _ in range(3):
        assert await site.state_after("a.1") is DispatchState.RUNNING
    said = [record for record in caplog.records if "accounting does not answer" in record.message]
    assert len(said) == 1
    site.slurm.accounting = [make_row("COMPLETED", user=ME)]
    assert await site.state_after("a.1") is DispatchState.COMPLETED


async def test_not_even_a_silent_accounting_is_waited_for_for_ever(site: Site) -> None:
    await site.add("a.1", unknown_since=long_ago(601))
    site.slurm.accounting = None
    assert await site.state_after("a.1") is DispatchState.MISSING


async def test_a_job_that_accounting_believes_to_run_is_missing(site: Site) -> None:
    """Slurm's own word for it is a runaway job."""
    await site.add("a.1", unknown_since=long_ago(31))
    site.slurm.accounting = [make_row("RUNNING", user=ME)]
    assert await site.state_after("a.1") is DispatchState.MISSING


async def test_an_accounted_job_of_the_same_id_is_not_ours(site: Site) -> None:
    await site.add("a.1")
    site.slurm.accounting = [
        make_row("COMPLETED", user=ME, name="", comment="", submitted_at=long_ago(0))
    ]
    assert await site.state_after("a.1") is DispatchState.RUNNING


async def test_a_job_that_comes_back_was_never_missing(site: Site) -> None:
    await site.add("a.1", unknown_since=long_ago(29))
    assert await site.state_after("a.1") is DispatchState.RUNNING
    await site.follower.follow([make_row("RUNNING", user=ME)])
    assert site.get("a.1").unknown_since is None
    assert site.slurm.questions == ["sacct"]


async def test_hidden_jobs_are_asked_for_as_their_owners(site: Site) -> None:
    """`PrivateData=jobs` shows everybody only his own."""
    await site.add("a.1", owner="nobody", job_id=SlurmJobId("1"), unknown_since=long_ago(99))
    await site.add("b.1", owner="nobody", job_id=SlurmJobId("2"))
    await site.add(
        "c.1",
        owner="nobody",
        job_id=None,
        submission=Submission.DOUBTFUL,
        job_name="det-c.1",
        unknown_since=long_ago(99),
    )
    site.slurm.seen_by["nobody"] = [
        make_row("RUNNING", id="1", user="nobody"),
        make_row("COMPLETED", id="2", user="nobody"),
        make_row("RUNNING", id="3", user="nobody", name="det-c.1", comment=""),
    ]
    await site.follower.follow([])
    assert site.slurm.questions == ["squeue as nobody"]
    assert [site.get(name).state for name in ("a.1", "b.1", "c.1")] == [
        DispatchState.RUNNING,
        DispatchState.COMPLETED,
        DispatchState.RUNNING,
    ]
    assert site.get("c.1").job_id == "3"


async def test_a_preemption_is_handed_on_as_soon_as_it_is_seen(site: Site) -> None:
    await site.add("a.1")
    for _ in range(2):
        await site.follower.follow([make_row("RUNNING", user=ME, preempted_at=now())])
    assert [dispatch.id for dispatch in site.told] == ["a.1"]


async def test_a_job_that_is_put_back_is_cancelled_and_then_says_so(site: Site) -> None:
    await site.add("a.1")
    again = {"user": ME, "restarts": 1}
    assert await site.state_after("a.1", [make_row("PENDING", **again)]) is DispatchState.PENDING
    await site.follower.follow([make_row("PENDING", **again)])
    assert site.slurm.cancelled == ["7"], "once, and then it is given time"
    assert await site.state_after("a.1", [make_row("CANCELLED", **again)]) is DispatchState.FAILED
    assert "'Requeued'" in site.get("a.1").events[-1].message
