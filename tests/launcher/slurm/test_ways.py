"""What holds of a cluster by whichever way it is reached: one suite for all."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from shipway_launcher.errors import BackendRefused
from shipway_launcher.slurm.pyslurm.backend import PyslurmSlurm
from shipway_launcher.slurm.rows import JobRow, SlurmJobId
from shipway_launcher.slurm.states import Phase
from tests.lab.slurm import Slurm
from tests.launcher.slurm.test_pyslurm import write_script
from tests.launcher.slurm.ways import WAYS, Way, take_way

COMMENT = "a \"b\" 'c' \\ #d $e `f` ü 😀 shipway:x.1"


@pytest.fixture(params=WAYS)
async def way(request: pytest.FixtureRequest, slurm: Slurm, tmp_path: Path) -> AsyncGenerator[Way]:
    async with take_way(request.param, slurm, tmp_path) as found:
        yield found


async def find(way: Way, job_id: SlurmJobId) -> JobRow | None:
    return next((row for row in await way.backend.jobs() if row.id == job_id), None)


async def test_a_job_is_submitted_seen_and_cancelled(way: Way, tmp_path: Path) -> None:
    options = {"comment": COMMENT, "gpus": "2", "nodes": "1-2", "time": "90", "hold": None}
    script = write_script(tmp_path / "a job's.sh", {**options, "ntasks": "2"})
    job_id = await way.backend.submit(script, user=way.user)
    row = await find(way, job_id)
    assert row is not None
    assert (row.name, row.comment, row.user) == ("det-x.1", COMMENT, getpass.getuser())
    assert (row.state.phase, row.gpus, row.time_limit_s) == (Phase.WAITING, 2, 5400)
    assert row.partition == "gpu"
    await way.backend.cancel([job_id], user=way.user)
    async with asyncio.timeout(60):
        while row is not None and row.state.phase is not Phase.ENDED:
            await asyncio.sleep(0.1)
            row = await find(way, job_id)
    if isinstance(way.backend, PyslurmSlurm):
        assert way.backend.is_used


async def test_several_at_once_are_several_jobs(way: Way, tmp_path: Path) -> None:
    script = write_script(tmp_path / "job.sh", {"hold": None})
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(way.backend.submit(script, user=way.user)) for _ in range(8)]
    ids = {task.result() for task in tasks}
    assert len(ids) == 8
    assert ids <= {row.id for row in await way.backend.jobs()}
    await way.backend.cancel(ids, user=way.user)


async def test_a_refusal_has_slurms_reason(way: Way, tmp_path: Path) -> None:
    script = write_script(tmp_path / "job.sh", {"partition": "nosuch"})
    with pytest.raises(BackendRefused) as refused:
        await way.backend.submit(script, user=way.user)
    assert refused.value.exit_status == 1
    assert refused.value.stderr == (
        "sbatch: error: invalid partition specified: nosuch\n"
        "sbatch: error: Batch job submission failed: Invalid partition name specified"
    )


async def test_jobs_that_are_over_or_never_were_can_be_cancelled(way: Way) -> None:
    await way.backend.cancel([], user=way.user)
    await way.backend.cancel([SlurmJobId("99999"), SlurmJobId("99998")], user=way.user)


async def test_the_cluster_is_described(way: Way, slurm: Slurm) -> None:
    release = (await asyncio.to_thread(slurm.run, ["sbatch", "--version"])).stdout.split()[-1]
    assert str((await way.backend.facts()).version) == release
    found = await way.backend.cluster()
    assert [row.name for row in found.partitions] == ["gpu", "cancel", "urgent"]
    assert [(row.name, row.gpus.total) for row in found.nodes] == [(n, 4) for n in slurm.nodes]
    assert await way.backend.accounted([SlurmJobId("99999")]) == {}
