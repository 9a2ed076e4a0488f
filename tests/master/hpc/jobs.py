"""What the tests of jobs ask for, and how they find it at the launcher."""

from __future__ import annotations

from tests.master.asking import eventually
from tests.master.hpc.standin import Job, StandInLauncher
from tests.master.running import MasterUnderTest

POOL = {"resource_pool": "gpu", "slots": 4}
GENERIC = "entrypoint: [x]\nresources: {resource_pool: gpu, slots: 8}\nslurm: {slots_per_node: 4}\n"


async def has_pool(master: MasterUnderTest) -> bool:
    """Whether the partitions are known."""
    pools = (await master.call("GET", "/resource-pools")).json["resourcePools"]
    return any(pool["name"] == "gpu" for pool in pools)


async def next_job(launcher: StandInLauncher, task_id: str, run: int = 1) -> Job:
    """Wait until a run has been launched."""

    async def look() -> Job | None:
        return launcher.jobs.get(f"{task_id}.{run}")

    return await eventually(look)


async def forgotten(launcher: StandInLauncher) -> bool:
    """Whether the launcher keeps nothing any more."""
    return not launcher.jobs
