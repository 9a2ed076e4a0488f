"""In a Slurm job, too, what is posted is the task's own."""

from __future__ import annotations

from tests.agent.job.conftest import StartJob, start_job
from tests.agent.job.stand_in import StandInRelay
from tests.agent.profiler.driver import Driver

__all__ = ["start_job"]  # a fixture

BUSY = "end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done"


async def test_a_job_tells_of_its_task_and_its_gpus(
    relay: StandInRelay, start_job: StartJob, driver: Driver
) -> None:
    driver.says(BUSY1=77)
    job = await start_job(
        *("sh", "-c", BUSY),
        slurm={**driver.environ, "CUDA_VISIBLE_DEVICES": "1"},
        environment={"DET_TRIAL_ID": "5", "SHIPWAY_PROFILE": "true", "PATH": "/usr/bin:/bin"},
    )
    assert (await job.end()).status == 0
    found: dict[str, list[float]] = {}
    for body in relay.bodies("profiler/metrics"):
        for batch in body["batches"]:
            labels = batch["labels"]
            assert (labels["trialId"], labels["agentId"]) == (5, "n7")
            name = f"{labels['name']} {labels['gpuUuid']}".strip()
            found.setdefault(name, []).extend(batch["values"])
    assert max(found["cpu_util_simple"]) > 0
    assert found["memory_free"]
    assert set(found["gpu_util GPU-1"]) == {77}
    assert not any("GPU-0" in name for name in found)
