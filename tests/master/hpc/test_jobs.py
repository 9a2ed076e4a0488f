"""Tasks as Slurm jobs, through a launcher, from launch to end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.master.asking import (
    create,
    eventually,
    get_task,
    launch,
    read_log,
    wait_for_end,
    wait_for_line,
    wait_for_state,
)
from tests.master.hpc.jobs import GENERIC, POOL, forgotten, has_pool, next_job
from tests.master.hpc.standin import Job, StandInLauncher
from tests.master.running import MasterUnderTest, Prepared, master_running


async def notify(master: MasterUnderTest, job: Job, rank: int, peers: int, node: str) -> None:
    """Report a rank as running, as the job does."""
    headers = {"Grpc-Metadata-x-allocation-token": f"Bearer {job.environment['DET_SESSION_TOKEN']}"}
    body = {"numPeers": peers, "rank": rank, "nodeName": node, "requestUuid": "x", "data": {}}
    path = f"/allocations/{job.id}/notify_container_running"
    answer = await master.call("POST", path, body, token=None, headers=headers)
    assert (answer.status, answer.json) == (200, {"data": []})


async def test_a_command_as_a_job(site: MasterUnderTest, launcher: StandInLauncher) -> None:
    config = {"entrypoint": ["hostname"], "resources": POOL, "description": "mine"}
    task_id = await launch(site, config)
    job = await next_job(launcher, task_id)
    assert job.owner == "launcher"
    assert job.environment["DET_MASTER"] == site.url
    assert job.environment["DET_RESOURCES_TYPE"] == "slurm-job"
    payload = job.manifest["payloads"][0]
    assert payload["resourceRequirements"] == {"instances": {"nodes": 1}, "gpus": {"total": 4}}
    await wait_for_line(site, task_id, f"HPC Job ID: {job.number}")
    await wait_for_state(site, task_id, "QUEUED")
    job.reason = ("Resources", "The job is waiting for resources to become available")
    await wait_for_line(site, task_id, "HPC job waiting to be scheduled: The job is waiting")
    jobs = (await site.call("GET", "/job-queues-v2")).json["jobs"]
    assert jobs[0]["full"]["summary"]["state"] == "STATE_QUEUED"
    job.run()
    await wait_for_state(site, task_id, "PULLING")
    await notify(site, job, 0, 1, "n1")
    await wait_for_state(site, task_id, "RUNNING")
    jobs = (await site.call("GET", "/job-queues-v2")).json["jobs"]
    assert jobs[0]["full"]["summary"]["state"] == "STATE_SCHEDULED"
    summary = (await site.call("GET", "/tasks")).json["allocationIdToSummary"][f"{task_id}.1"]
    assert list(summary["resources"][0]["agentDevices"]) == ["n1"]
    job.end()
    task = await wait_for_end(site, task_id)
    assert task["allocations"][0]["statusCode"] == 0
    await eventually(lambda: forgotten(launcher))
    log = await read_log(site, task_id)
    assert log[-1] == "mine was terminated: allocation stopped early after all containers exited"
    assert not any("containers running" in line for line in log), "one rank is not counted"


async def test_running_means_that_all_ranks_run(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    task_id = await create(site, GENERIC)
    job = await next_job(launcher, task_id)
    assert job.environment["SHIPWAY_ON_TERM"] == "report"
    assert job.environment["DET_SLOT_IDS"] == "[0,1,2,3]"
    job.run()
    await notify(site, job, 1, 2, "n2")
    await notify(site, job, 1, 2, "n2")
    await wait_for_state(site, task_id, "PULLING")
    await notify(site, job, 0, 2, "n1")
    await wait_for_state(site, task_id, "RUNNING")
    counts = [line for line in await read_log(site, task_id) if "containers running" in line]
    assert counts == [
        "1 out of 2 containers running on nodes n2",
        "2 out of 2 containers running on nodes n1, n2",
    ]


async def test_a_failed_job_says_how(site: MasterUnderTest, launcher: StandInLauncher) -> None:
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    job = await next_job(launcher, task_id)
    job.run()
    job.end(
        "FAILED",
        "noise",
        "Slurm job is in a failed state due to reason 'NonZeroExitCode':\n"
        "  Job Exited with Exit Code 3\n",
        error_log="srun: error: n1: task 0: Exited with exit code 3\n",
    )
    task = await wait_for_end(site, task_id)
    assert task["allocations"][0]["statusCode"] == 3
    log = await read_log(site, task_id)
    told = next(line for line in log if line.startswith("Slurm job is in a failed state"))
    assert "Job Exited with Exit Code 3" in told
    assert "srun: error: n1" in told
    assert not any("noise" in line for line in log)
    command = (await site.call("GET", f"/commands/{task_id}")).json["command"]
    assert command["exitStatus"].endswith("(exit code 3)")


@pytest.mark.parametrize("state", ["MISSING", "TERMINATED", "FAILED"])
async def test_a_job_that_somebody_else_ended_is_no_success(
    site: MasterUnderTest, launcher: StandInLauncher, state: str
) -> None:
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    (await next_job(launcher, task_id)).end(state)
    task = await wait_for_end(site, task_id)
    assert task["allocations"][0].get("statusCode") is None
    assert "allocation failed" in task["allocations"][0]["exitReason"]


async def test_a_job_that_the_launcher_does_not_know_is_lost(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    await next_job(launcher, task_id)
    await wait_for_line(site, task_id, "HPC Job ID")
    launcher.jobs.clear()
    task = await wait_for_end(site, task_id)
    assert "job was lost" in task["allocations"][0]["exitReason"]


async def test_killing_a_job(site: MasterUnderTest, launcher: StandInLauncher) -> None:
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    job = await next_job(launcher, task_id)
    job.run()
    await wait_for_state(site, task_id, "PULLING")
    assert (await site.call("POST", f"/commands/{task_id}/kill")).status == 200

    async def asked() -> bool:
        return launcher.terminated == [job.id]

    await eventually(asked)
    job.queue_state = "RUNNING"  # the queue is late; what was told about the kill counts
    job.state = "TERMINATED"
    await wait_for_end(site, task_id)
    command = (await site.call("GET", f"/commands/{task_id}")).json["command"]
    assert command["exitStatus"] == "killed"
    assert launcher.terminated == [job.id]


async def test_a_job_that_slurm_pre_empts_comes_back(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    task_id = await create(site, GENERIC)
    job = await next_job(launcher, task_id)
    job.run()
    for rank in (0, 1):
        await notify(site, job, rank, 2, f"n{rank + 1}")
    path = f"/allocations/{job.id}/signals"
    headers = {"Grpc-Metadata-x-allocation-token": f"Bearer {job.environment['DET_SESSION_TOKEN']}"}
    sent = await site.call("POST", f"{path}/pending_preemption", token=None, headers=headers)
    assert sent.status == 200
    poll = await site.call("GET", f"{path}/preemption?timeout_seconds=60")
    assert poll.json["preempt"] is True
    await site.call("POST", f"{path}/ack_preemption", token=None, headers=headers)
    job.end("FAILED", "Slurm job is in a failed state due to reason 'x':\n")
    again = await next_job(launcher, task_id, run=2)
    assert again.environment["DET_ALLOCATION_ID"] == f"{task_id}.2"
    again.run()
    again.end()
    task = await wait_for_end(site, task_id)
    assert task["taskState"] == "GENERIC_TASK_STATE_COMPLETED"


@pytest.mark.parametrize(
    ("message", "comes_back"),
    [
        ("reason 'Preempted':\n  Slurm took the resources\n", True),
        ("reason 'NodeFail':\n  A node of the job failed\n", True),
        (
            (
                "reason 'NonZeroExitCode':\n  Job Exited with Exit Code 143\n"
                "  Slurm had announced its preemption at 2026-01-01T00:00:00+00:00\n"
            ),
            True,
        ),
        (
            (
                "reason 'NonZeroExitCode':\n  Job Exited with Exit Code 1\n"
                "  Slurm had announced its preemption at 2026-01-01T00:00:00+00:00\n"
            ),
            False,
        ),
        ("reason 'TimeLimit':\n  The job reached its time limit\n", False),
        ("reason 'NonZeroExitCode':\n  Job Exited with Exit Code 137\n", False),
    ],
    ids=["pre-empted", "node failed", "announced", "own error", "time limit", "killed"],
)
async def test_what_slurm_took_away_comes_back_although_no_notice_arrived(
    site: MasterUnderTest, launcher: StandInLauncher, message: str, comes_back: bool
) -> None:
    task_id = await create(site, GENERIC)
    job = await next_job(launcher, task_id)
    job.run()
    await wait_for_state(site, task_id, "PULLING")
    job.end("FAILED", f"Slurm job is in a failed state due to {message}")
    if comes_back:
        await next_job(launcher, task_id, run=2)
    else:
        task = await wait_for_end(site, task_id)
        assert task["taskState"] == "GENERIC_TASK_STATE_ERROR"


async def test_a_command_hears_of_its_preemption_and_is_not_started_again(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    job = await next_job(launcher, task_id)
    assert "SHIPWAY_ON_TERM" not in job.environment
    job.run()
    await site.call("POST", f"/allocations/{job.id}/signals/pending_preemption")
    poll = await site.call("GET", f"/allocations/{job.id}/signals/preemption?timeout_seconds=60")
    assert poll.json["preempt"] is True
    job.end("TERMINATED")
    task = await wait_for_end(site, task_id)
    assert len(task["allocations"]) == 1


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            (
                500,
                {"detail": "Failed - Slurm job process terminated with exit code 1:\nsbatch: no"},
            ),
            ["sbatch: no"],
        ),
        ((400, {"detail": "slurm option -N is not configurable"}), ["option -N is not"]),
        ((500, "<html>"), ["answered 500 Internal Server Error"]),
        ((503, ""), ["answered 503"]),
        ((403, ""), ["answered 403"]),
    ],
)
async def test_a_launch_that_is_refused(
    site: MasterUnderTest, launcher: StandInLauncher, refusal: tuple[int, Any], words: list[str]
) -> None:
    launcher.refuse = refusal
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    task = await wait_for_end(site, task_id)
    for word in ["resources failed with non-zero exit code", *words]:
        assert word in task["allocations"][0]["exitReason"]
    tries = 2 if refusal[0] == 403 else 1  # a refused token is read again, once
    assert len(launcher.launches) == tries
    launcher.refuse = None
    (await next_job(launcher, await launch(site, {"entrypoint": ["y"], "resources": POOL}))).end()


async def test_a_launch_waits_for_a_launcher_that_is_away_for_a_moment(
    prepared: Prepared, tmp_path: Path
) -> None:
    launcher = StandInLauncher(tmp_path / "token")
    more = [{"resource_manager": launcher.config(lost_after=60)}]
    async with master_running(
        prepared, tmp_path / "data", additional_resource_managers=more
    ) as master:
        async with launcher.running():
            await eventually(lambda: has_pool(master))
        waiting = await launch(master, {"entrypoint": ["x"], "resources": POOL})
        await eventually(lambda: says(master, waiting, "It is tried again"))
        async with launcher.running():
            (await next_job(launcher, waiting)).run()
            await wait_for_state(master, waiting, "PULLING")
        assert len(launcher.launches) == 1


async def says(master: MasterUnderTest, task_id: str, text: str) -> bool:
    """Whether the task's log has a line with *text*."""
    return any(text in line for line in await read_log(master, task_id))


async def test_a_launcher_that_is_down_fails_the_task_and_loses_nothing(
    prepared: Prepared, tmp_path: Path
) -> None:
    launcher = StandInLauncher(tmp_path / "token")
    more = [{"resource_manager": launcher.config()}]
    async with master_running(
        prepared, tmp_path / "data", additional_resource_managers=more
    ) as master:
        refused = await master.call(
            "POST", "/commands", {"config": {"entrypoint": ["x"], "resources": POOL}}
        )
        assert refused.status == 400
        assert (
            f"the launcher at http://127.0.0.1:{launcher.port} are not known yet"
            in refused.error["error"]
        )
        async with launcher.running():
            await eventually(lambda: has_pool(master))
            running = await launch(master, {"entrypoint": ["x"], "resources": POOL})
            job = await next_job(launcher, running)
            job.run()
            await wait_for_state(master, running, "PULLING")
        failed = await launch(master, {"entrypoint": ["y"], "resources": POOL})
        task = await wait_for_end(master, failed)
        reason = task["allocations"][0]["exitReason"]
        assert "Verify that the launcher service is up and reachable" in reason
        assert (await get_task(master, running))["allocations"][0]["state"] == "STATE_PULLING"
        async with launcher.running():
            job.end()
            task = await wait_for_end(master, running)
            assert task["allocations"][0]["statusCode"] == 0


async def test_a_launch_whose_answer_got_lost_is_found_and_not_repeated(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    launcher.lose_answers = True
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    job = await next_job(launcher, task_id)
    await wait_for_line(site, task_id, f"HPC Job ID: {job.number}")
    job.run()
    job.end()
    assert (await wait_for_end(site, task_id))["allocations"][0]["statusCode"] == 0
    assert launcher.launches == [job.id]


async def test_a_job_that_ended_while_the_answer_to_its_launch_was_lost_says_how(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    launcher.lose_answers = True
    reason = "Slurm job is in a failed state due to reason 'NonZeroExitCode':\n"
    launcher.ends_at_once = ("FAILED", f"{reason}  Job Exited with Exit Code 4\n")
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    [allocation] = (await wait_for_end(site, task_id))["allocations"]
    assert allocation["statusCode"] == 4
    assert "NonZeroExitCode" in allocation["exitReason"]


async def test_a_launch_that_never_arrived_fails_the_task(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    launcher.drop_launches = True
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    task = await wait_for_end(site, task_id)
    assert "Job launch failed" in task["allocations"][0]["exitReason"]
    assert len(launcher.launches) == 1


async def test_a_new_token_is_read_when_the_old_one_is_refused(
    site: MasterUnderTest, launcher: StandInLauncher
) -> None:
    launcher.token = "token-2"
    launcher.token_file.write_text("token-2\n")
    task_id = await launch(site, {"entrypoint": ["x"], "resources": POOL})
    job = await next_job(launcher, task_id)
    job.run()
    await wait_for_state(site, task_id, "PULLING")


async def test_the_master_restarts_while_a_job_runs(
    prepared: Prepared, tmp_path: Path, launcher: StandInLauncher
) -> None:
    more = [{"resource_manager": launcher.config()}]
    first, second = tmp_path / "one", tmp_path / "two"
    async with master_running(prepared, first, additional_resource_managers=more) as master:
        await eventually(lambda: has_pool(master))
        task_id = await create(master, GENERIC)
        job = await next_job(launcher, task_id)
        job.run()
        await notify(master, job, 0, 2, "n1")
        await wait_for_state(master, task_id, "PULLING")
    after = Prepared(first, prepared.admin_token, prepared.user_token)
    async with master_running(after, second, additional_resource_managers=more) as master:
        await wait_for_line(master, task_id, "was recovered on Slurm")
        await notify(master, job, 1, 2, "n2")
        await wait_for_state(master, task_id, "RUNNING")
        job.end()
        task = await wait_for_end(master, task_id)
        assert task["taskState"] == "GENERIC_TASK_STATE_COMPLETED"
        await eventually(lambda: forgotten(launcher))
    assert launcher.launches == [job.id]


async def test_what_a_log_was_told_of_its_job_is_not_told_again_after_a_restart(
    prepared: Prepared, tmp_path: Path, launcher: StandInLauncher
) -> None:
    more = [{"resource_manager": launcher.config()}]
    first, second = tmp_path / "one", tmp_path / "two"
    async with master_running(prepared, first, additional_resource_managers=more) as master:
        await eventually(lambda: has_pool(master))
        task_id = await launch(master, {"entrypoint": ["x"], "resources": POOL})
        job = await next_job(launcher, task_id)
        job.reason = ("Resources", "it waits for resources")
        await wait_for_line(master, task_id, "it waits for resources")
    after = Prepared(first, prepared.admin_token, prepared.user_token)
    async with master_running(after, second, additional_resource_managers=more) as master:
        await wait_for_line(master, task_id, "was recovered on Slurm")
        job.reason = ("Priority", "others come first")
        await wait_for_line(master, task_id, "others come first")
        told = [line for line in await read_log(master, task_id) if line.startswith("HPC")]
    assert told == [
        f"HPC Job ID: {job.number}",
        "HPC job waiting to be scheduled: it waits for resources",
        "HPC job waiting to be scheduled: others come first",
    ]


async def test_the_master_restarts_while_it_launches(
    prepared: Prepared, tmp_path: Path, launcher: StandInLauncher
) -> None:
    """The launch arrived, its answer did not, and then the master ended."""
    more = [{"resource_manager": launcher.config(lost_after=60)}]
    first, second = tmp_path / "one", tmp_path / "two"
    async with master_running(prepared, first, additional_resource_managers=more) as master:
        await eventually(lambda: has_pool(master))
        launcher.lose_answers = True
        good = launcher.token
        task_id = await launch(master, {"entrypoint": ["x"], "resources": POOL})
        job = await next_job(launcher, task_id)
        launcher.token = "nobody has this one"
    after = Prepared(first, prepared.admin_token, prepared.user_token)
    launcher.token, launcher.lose_answers = good, False
    async with master_running(after, second, additional_resource_managers=more) as master:
        await wait_for_line(master, task_id, f"HPC Job ID: {job.number}")
        job.end()
        assert (await wait_for_end(master, task_id))["allocations"][0]["statusCode"] == 0
    assert launcher.launches == [job.id]


async def test_partitions_are_pools_and_nodes_are_agents(site: MasterUnderTest) -> None:
    pools = (await site.call("GET", "/resource-pools")).json["resourcePools"]
    assert [(pool["name"], pool["defaultComputePool"]) for pool in pools] == [
        ("default", True),
        ("gpu", False),
    ]
    gpu = pools[1]
    assert gpu["schedulerType"] == "SCHEDULER_TYPE_SLURM"
    assert (gpu["numAgents"], gpu["slotsAvailable"], gpu["slotType"]) == (2, 8, "TYPE_CUDA")
    agents = (await site.call("GET", "/agents")).json["agents"]
    assert [(agent["id"], agent["draining"]) for agent in agents] == [("n1", False), ("n2", True)]
    slots = agents[0]["slots"].values()
    assert sum(slot["container"] is not None for slot in slots) == 1
    refused = await site.call("POST", "/agents/n1/disable")
    assert "belongs to Slurm" in refused.error["error"]
    assert (await site.call("GET", "/agents/n1/slots/0")).status == 200


async def test_more_slots_than_the_partition_has(site: MasterUnderTest) -> None:
    for slots, word in ((9, "has 8 GPUs"), (5, "largest node")):
        config = {"entrypoint": ["x"], "resources": {"resource_pool": "gpu", "slots": slots}}
        answer = await site.call("POST", "/commands", {"config": config})
        assert (answer.status, answer.error["reason"]) == (400, "InvalidArgument")
        assert word in answer.error["error"]


async def test_a_launcher_as_the_main_manager_and_agents_beside_it(
    prepared: Prepared, tmp_path: Path, launcher: StandInLauncher
) -> None:
    async with master_running(
        prepared, tmp_path / "data", resource_manager=launcher.config()
    ) as master:
        await eventually(lambda: has_pool(master))
        pools = (await master.call("GET", "/resource-pools")).json["resourcePools"]
        assert [(pool["name"], pool["defaultComputePool"]) for pool in pools] == [
            ("gpu", True),
            ("default", False),
        ]
        task_id = await launch(master, {"entrypoint": ["x"], "resources": {"slots": 1}})
        await next_job(launcher, task_id)
