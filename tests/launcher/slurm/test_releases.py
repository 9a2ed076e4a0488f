"""Real clusters of three releases: each way of ending is seen, and told, as what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from shipway_launcher.dispatches.outcome import with_row
from shipway_launcher.slurm import commands
from shipway_launcher.slurm.parse_json import parse_jobs_json
from shipway_launcher.slurm.reasons import explain_wait, split_reason
from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.slurm.states import Phase
from tests.lab.processes import wait_until
from tests.launcher.dispatches.test_outcome import make_dispatch
from tests.launcher.slurm.releases import RELEASES, Release, missing, running_releases

LIMIT_S = 100
WAITING = ("hopeless", "held", "put back")
ENDS = {
    "failed": "'NonZeroExitCode':\n  Job Exited with Exit Code 3\n",
    "killed": "Signal 9\n  Where nobody sent it, SIGKILL often means that the job used more memory",
    "timed out": "'TimeLimit':\n  The job reached its time limit\n",
    "cancelled outside": "'Cancelled':\n  The job was cancelled, but not by way of the launcher\n",
    "preempted": "'Preempted':\n  Slurm took the resources for a job of higher priority\n",
    "preempted, left in time": "'Preempted':\n  Slurm took the resources for a job of higher",
    "node failed": "'NodeFail':\n  A node of the job failed\n",
    "out of memory": "SIGKILL often means that the job used more memory than it was given\n",
    "could not start": "prolog",
    "part of an array": "'NonZeroExitCode':\n  Job Exited with Exit Code 4\n",
    "half of a pair": "'NonZeroExitCode':\n  Job Exited with Exit Code 5\n",
    "hostile": "'NonZeroExitCode':\n  Job Exited with Exit Code 6\n",
}


@pytest.fixture(scope="module")
def releases() -> Iterator[Mapping[str, Release]]:
    """All releases that are to be had, with jobs that end meanwhile."""
    with running_releases() as running:
        yield running


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, releases: Mapping[str, Release]) -> Release:
    """One of them; a newer one that Debian does not give today is no failure of ours."""
    name: str = request.param
    if lacks := missing(name):
        pytest.skip(f"the Slurm of {name} lacks {', '.join(lacks)}; run `make test` as root")
    return releases[name]


def test_every_end_is_told_as_what_it_is(release: Release) -> None:
    rows = wait_for_ends(release)
    assert rows["completed"].state.word == "COMPLETED"
    dispatch = make_dispatch(owner=release.user)
    told = {name: with_row(dispatch, rows[name], dispatch.created_at) for name in ENDS}
    for name, text in ENDS.items():
        assert text in told[name].events[-1].message, (name, rows[name])
    cancelled = replace(dispatch, terminate_requested_at=dispatch.created_at)
    ended = with_row(cancelled, rows["cancelled outside"], dispatch.created_at)
    assert ended.state == "TERMINATED"


def test_jobs_that_wait_say_why(release: Release) -> None:
    rows = wait_for_ends(release)
    assert explain_wait(rows["hopeless"]).is_hopeless
    assert "asks for more time than its partition allows" in explain_wait(rows["hopeless"]).line
    assert "held by its user" in explain_wait(rows["held"]).line
    assert rows["put back"].restarts == 1


def test_text_and_json_say_the_same(release: Release) -> None:
    wait_for_ends(release)
    text = {row.id: comparable(row) for row in list_jobs(release).values()}
    stdout = release.cluster.run(commands.list_jobs_as_json()).stdout
    assert {row.id: comparable(row) for row in parse_jobs_json(stdout)} == text


def test_parts_and_foreign_names_are_rows_of_their_own(release: Release) -> None:
    rows = wait_for_ends(release)
    shown = {row.shown_id for row in list_jobs(release).values()}
    array, pair = (release.ids[name] for name in ("part of an array", "half of a pair"))
    assert {f"{array}_4", f"{array}_5", f"{pair}+0", f"{pair}+1"} <= shown
    assert rows["hostile"].name == "a|b\n7|RUNNING\u00e9"


async def test_a_restarted_controller_changes_nothing(release: Release) -> None:
    """While it is away there is no answer, not even an empty one."""
    before = await asyncio.to_thread(wait_for_ends, release)
    await asyncio.to_thread(release.cluster.restart_controller)
    after = {str(row.id): row for row in await release.backend.jobs()}
    kept = {name: after[release.ids[name]].state for name in ENDS}
    assert kept == {name: before[name].state for name in ENDS}


def list_jobs(release: Release) -> dict[str, JobRow]:
    return {row.id: row for row in asyncio.run(release.backend.jobs())}


def wait_for_ends(release: Release) -> dict[str, JobRow]:
    """Return all rows, once each job is where it has to get to."""

    def is_over() -> bool:
        rows = list_jobs(release)
        return all(
            rows[job_id].state.phase is (Phase.WAITING if name in WAITING else Phase.ENDED)
            for name, job_id in release.ids.items()
        )

    wait_until(is_over, "every job ends", limit_s=LIMIT_S, interval_s=0.5)
    rows = list_jobs(release)
    return {name: rows[job_id] for name, job_id in release.ids.items()}


def comparable(row: JobRow) -> JobRow:
    """Leave out what only one form adds to a reason, and estimates that come and go."""
    is_waiting = row.state.phase is Phase.WAITING
    starts_at, ends_at = (None, None) if is_waiting else (row.starts_at, row.ends_at)
    reason, _ = split_reason(row.reason)
    return replace(row, reason=reason, starts_at=starts_at, ends_at=ends_at)
