"""Whose token speaks for what is known before a job runs, and after a restart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shipway_launcher.relay.errors import NotYours
from shipway_launcher.relay.jobs import Jobs
from tests.launcher.relay.conftest import make_environment
from tests.launcher.relay.master import ALLOCATION, TASK, TOKEN, TRIAL

METADATA = (("x-allocation-token", f"Bearer {TOKEN}"),)


def load(folder: Path) -> Jobs:
    jobs = Jobs(folder / "jobs", keep_h=1)
    jobs.load()
    return jobs


async def test_a_job_is_known_after_a_restart_and_its_token_is_not_on_disk(tmp_path: Path) -> None:
    await load(tmp_path).learn(make_environment("http://m"))
    job = load(tmp_path).find(METADATA)
    assert job is not None
    assert (job.allocation_id, job.task_id, job.trial_id) == (ALLOCATION, TASK, str(TRIAL))
    [file] = tmp_path.joinpath("jobs").iterdir()
    assert TOKEN not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("value", [TOKEN, f"bearer {TOKEN}", "Bearer ", f"Bearer {TOKEN} "])
async def test_only_the_exact_token_is_a_jobs(tmp_path: Path, value: str) -> None:
    jobs = load(tmp_path)
    await jobs.learn(make_environment("http://m"))
    assert jobs.find((("x-allocation-token", value),)) is None


@pytest.mark.parametrize("allocation_id", ["", "../x.1", "no-attempt", "a/b.1", "x\n.1"])
async def test_what_is_no_allocation_is_not_learned(tmp_path: Path, allocation_id: str) -> None:
    jobs = load(tmp_path)
    await jobs.learn(make_environment("http://m", DET_ALLOCATION_ID=allocation_id))
    assert jobs.find(METADATA) is None
    assert not list(tmp_path.joinpath("jobs").iterdir())


async def test_a_task_that_is_no_trial_has_metrics_of_none(tmp_path: Path) -> None:
    jobs = load(tmp_path)
    await jobs.learn(make_environment("http://m", DET_TRIAL_ID=""))
    job = jobs.find(METADATA)
    assert job is not None
    job.check_line(TASK, "")
    for check in (lambda: job.check_trial(0), lambda: job.check_line("other", "")):
        with pytest.raises(NotYours):
            check()


async def test_a_job_that_is_long_silent_is_forgotten(tmp_path: Path) -> None:
    await load(tmp_path).learn(make_environment("http://m"))
    [file] = tmp_path.joinpath("jobs").iterdir()
    os.utime(file, (file.stat().st_mtime - 3601,) * 2)
    jobs = load(tmp_path)
    await jobs.forget_old()
    assert jobs.find(METADATA) is None
    assert not file.exists()


async def test_a_job_that_calls_is_not_forgotten(tmp_path: Path) -> None:
    await load(tmp_path).learn(make_environment("http://m"))
    [file] = tmp_path.joinpath("jobs").iterdir()
    os.utime(file, (file.stat().st_mtime - 3601,) * 2)
    jobs = load(tmp_path)
    job = jobs.find(METADATA)
    assert job is not None
    await jobs.note_use(job)
    await jobs.forget_old()
    assert jobs.find(METADATA) is job
    assert load(tmp_path).find(METADATA) == job


async def test_a_damaged_record_is_named_and_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await load(tmp_path).learn(make_environment("http://m"))
    tmp_path.joinpath("jobs", "x.json").write_text('{"version": 9}')
    tmp_path.joinpath("jobs", "y.json").write_text("")
    assert load(tmp_path).find(METADATA) is not None
    assert len([r for r in caplog.records if "unreadable" in r.message]) == 2
