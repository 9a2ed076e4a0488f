"""Jobs of Slurm while the master's database takes nothing, and when the master crashes then."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.master.asking import create, eventually, launch, wait_for_end, wait_for_state
from tests.master.experiments.faults import change, copy_data, heal, refusing
from tests.master.hpc.jobs import GENERIC, POOL, forgotten, has_pool, next_job
from tests.master.hpc.standin import Job, StandInLauncher
from tests.master.running import MasterUnderTest, Prepared, master_running


async def wait_for_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Wait until the master has been refused something."""

    async def look() -> bool:
        return any("did not answer as it should" in one.getMessage() for one in caplog.records)

    await eventually(look)


async def run_two(
    site: MasterUnderTest, launcher: StandInLauncher
) -> tuple[tuple[str, str], tuple[Job, Job]]:
    """Have two tasks run as jobs; returns their ids and the jobs."""

    async def begin() -> tuple[str, Job]:
        task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
        job = await next_job(launcher, task_id)
        job.run()
        await wait_for_state(site, task_id, "PULLING")
        return task_id, job

    (first, first_job), (second, second_job) = await begin(), await begin()
    return (first, second), (first_job, second_job)


async def test_the_ends_of_jobs_are_heard_once_there_is_room(
    site: MasterUnderTest, launcher: StandInLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    """The watch over all jobs must outlive an end that cannot be stored."""
    (first, second), jobs = await run_two(site, launcher)
    async with refusing(site.data, "UPDATE ON dispatches"):
        jobs[0].end()
        await wait_for_warning(caplog)
    assert (await wait_for_end(site, first))["allocations"][0]["statusCode"] == 0
    jobs[1].end()
    assert (await wait_for_end(site, second))["allocations"][0]["statusCode"] == 0
    await eventually(lambda: forgotten(launcher))


async def test_an_error_of_the_master_about_one_job_costs_the_others_nothing(
    site: MasterUnderTest, launcher: StandInLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    (first, second), jobs = await run_two(site, launcher)
    await asyncio.to_thread(
        change,
        site.data,
        "CREATE TRIGGER refusal BEFORE UPDATE ON allocations "
        f"WHEN NEW.task_id = '{first}' BEGIN SELECT RAISE(ABORT, 'a defect'); END",
    )
    jobs[0].end()

    async def is_logged() -> bool:
        return any(one.getMessage() == "looking at a job failed" for one in caplog.records)

    await eventually(is_logged)
    jobs[1].end()
    assert (await wait_for_end(site, second))["allocations"][0]["statusCode"] == 0


async def test_a_job_is_watched_although_its_launch_could_not_be_stored(
    site: MasterUnderTest, launcher: StandInLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    async with refusing(site.data, "UPDATE ON dispatches"):
        task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
        job = await next_job(launcher, task_id)
        await wait_for_warning(caplog)
    job.run()
    await wait_for_state(site, task_id, "PULLING")
    job.end()
    assert (await wait_for_end(site, task_id))["allocations"][0]["statusCode"] == 0
    assert launcher.launches == [job.id]


async def test_a_launch_that_failed_is_told_once_there_is_room(
    site: MasterUnderTest, launcher: StandInLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    launcher.refuse = (500, {"detail": "sbatch: no"})
    async with refusing(site.data, "DELETE ON dispatches"):
        task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
        await wait_for_warning(caplog)
    assert "sbatch: no" in (await wait_for_end(site, task_id))["allocations"][0]["exitReason"]


async def test_a_crash_while_the_end_of_a_job_is_stored_does_not_run_it_again(
    prepared: Prepared,
    tmp_path: Path,
    launcher: StandInLauncher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    more = [{"resource_manager": launcher.config()}]
    first, second, crash = tmp_path / "one", tmp_path / "two", tmp_path / "crash"
    async with master_running(prepared, first, additional_resource_managers=more) as master:
        await eventually(lambda: has_pool(master))
        task_id = await create(master, GENERIC)
        job = await next_job(launcher, task_id)
        job.run()
        await wait_for_state(master, task_id, "PULLING")
        async with refusing(master.data, "UPDATE ON allocations", "NEW.state = 'TERMINATING'"):
            job.end()
            await wait_for_warning(caplog)
            await asyncio.to_thread(copy_data, master.data, crash)
        await wait_for_end(master, task_id)
    launcher.jobs[job.id] = job  # which the crash left there
    after = Prepared(crash, prepared.admin_token, prepared.user_token)
    heal(crash)
    async with master_running(after, second, additional_resource_managers=more) as master:
        task = await wait_for_end(master, task_id)
        assert task["taskState"] == "GENERIC_TASK_STATE_COMPLETED"
        await eventually(lambda: forgotten(launcher))
    assert launcher.launches == [job.id]
