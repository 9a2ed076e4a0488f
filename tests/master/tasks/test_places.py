"""Places in the queue: priority, weight, pool; over the API, with an agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.master.agents.standin import StandInAgent
from tests.master.asking import create, launch, wait_for_state
from tests.master.running import MasterUnderTest, Prepared, master_running
from tests.proto.required import missing_required

POOLS: dict[str, Any] = {
    "resource_pools": [
        {"pool_name": "default"},
        {"pool_name": "fair", "scheduler": {"type": "fair_share"}},
        {"pool_name": "urgent", "scheduler": {"preemption": True}},
    ]
}


@asynccontextmanager
async def pools(prepared: Prepared, folder: Path) -> AsyncGenerator[MasterUnderTest]:
    """Run a master with a pool of each kind."""
    async with master_running(prepared, folder, **POOLS) as master:
        yield master


def command(slots: int, **resources: Any) -> dict[str, Any]:
    """Write the configuration of a command."""
    return {"entrypoint": ["sleep 9"], "resources": {"slots": slots, **resources}}


async def find_job(master: MasterUnderTest, task_id: str) -> dict[str, Any]:
    """Find the job of a task."""
    jobs = (await master.call("GET", "/job-queues-v2")).json["jobs"]
    [job] = [one["full"] for one in jobs if one["full"]["entityId"] == task_id]
    return dict(job)


async def update(
    master: MasterUnderTest, task_id: str, *, token: str = "admin", **place: Any
) -> Any:
    """Change the place of a task as `det job update` does."""
    job_id = (await find_job(master, task_id))["jobId"]
    unset = dict.fromkeys(("priority", "weight", "resourcePool"))
    body = {"updates": [{"jobId": job_id, **unset, **place}]}
    return await master.call("POST", "/job-queues", body, token=token)


async def test_a_new_priority_changes_who_is_next(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        await launch(master, command(4))
        start = await agent.next_start()
        first, second = await launch(master, command(4)), await launch(master, command(4))

        answer = await update(master, second, priority=7)

        assert answer.json == {}
        job = await find_job(master, second)
        assert (job["priority"], job["summary"]["jobsAhead"]) == (7, 0)
        assert (await find_job(master, first))["summary"]["jobsAhead"] == 1
        await agent.run(start)
        await agent.end(start)
        following = await agent.next_start()
        assert following["Container"]["description"] == f"cmd-{second}"
        config = (await master.call("GET", f"/commands/{second}")).json["config"]
        assert config["resources"]["priority"] == 7


async def test_a_new_priority_survives_the_master(prepared: Prepared, tmp_path: Path) -> None:
    async with master_running(prepared, tmp_path / "data") as master:
        task_id = await launch(master, command(1))
        await update(master, task_id, priority=3)
    again = Prepared(tmp_path / "data", prepared.admin_token, prepared.user_token)
    async with master_running(again, tmp_path / "copy") as master:
        assert (await find_job(master, task_id))["priority"] == 3


async def test_a_priority_below_that_of_others_makes_it_leave(
    prepared: Prepared, tmp_path: Path
) -> None:
    async with (
        pools(prepared, tmp_path / "data") as master,
        StandInAgent(master.url, pool="urgent").connected() as agent,
    ):
        config = "entrypoint: [sleep 9]\nresources: {slots: 4, resource_pool: urgent}\n"
        running = await create(master, config)
        await agent.run(await agent.next_start())
        await wait_for_state(master, running, "RUNNING")
        await launch(master, command(4, resource_pool="urgent"))
        assert agent.kills.empty()

        await update(master, running, priority=90)

        await agent.next_kill()


async def test_a_task_moves_to_another_pool_while_it_waits(
    prepared: Prepared, tmp_path: Path
) -> None:
    async with (
        pools(prepared, tmp_path / "data") as master,
        StandInAgent(master.url, "other", pool="fair").connected() as other,
    ):
        task_id = await launch(master, command(2))
        assert (await find_job(master, task_id))["resourcePool"] == "default"

        moved = await update(master, task_id, resourcePool="fair")

        start = await other.next_start()
        assert moved.json == {}
        assert start["Container"]["description"] == f"cmd-{task_id}"
        assert (await find_job(master, task_id))["resourcePool"] == "fair"
        too_late = await update(master, task_id, resourcePool="default")
        assert too_late.status == 400
        assert "does not wait" in too_late.error["error"]


async def test_weights_count_where_shares_are_fair(prepared: Prepared, tmp_path: Path) -> None:
    async with (
        pools(prepared, tmp_path / "data") as master,
        StandInAgent(master.url, slots=1, pool="fair").connected() as agent,
    ):
        await launch(master, command(1, resource_pool="fair"))
        await agent.next_start()
        task_id = await launch(master, command(1, resource_pool="fair"))

        assert (await update(master, task_id, weight=2.5)).json == {}

        job = await find_job(master, task_id)
        assert job["weight"] == 2.5
        assert job["summary"]["jobsAhead"] == -1
        listed = (await master.call("GET", "/resource-pools")).json["resourcePools"]
        types = {pool["name"]: pool["schedulerType"] for pool in listed}
        assert types["fair"] == "SCHEDULER_TYPE_FAIR_SHARE"


@pytest.mark.parametrize(
    ("pool", "place", "words"),
    [
        ("default", {"priority": 0}, "between 1 and 99"),
        ("default", {"priority": 100}, "between 1 and 99"),
        ("default", {"weight": 2}, "a weight means nothing"),
        ("fair", {"priority": 2}, "a priority means nothing"),
        ("fair", {"weight": 0}, "more than 0"),
        ("fair", {"weight": "NaN"}, "more than 0"),
        ("default", {"resourcePool": "nowhere"}, "nowhere"),
        ("default", {"aheadOf": "x"}, "not supported"),
        ("default", {}, "give a priority"),
    ],
)
async def test_what_cannot_be_is_named(
    prepared: Prepared, tmp_path: Path, pool: str, place: dict[str, Any], words: str
) -> None:
    async with pools(prepared, tmp_path / "data") as master:
        task_id = await launch(master, command(1, resource_pool=pool))
        answer = await update(master, task_id, **place)

        assert answer.status == 400
        assert words in answer.error["error"]


async def test_places_belong_to_their_owner_and_to_administrators(master: MasterUnderTest) -> None:
    task_id = await launch(master, command(1))

    assert (await update(master, task_id, token="user", priority=1)).status == 403
    body = {"updates": [{"jobId": "none", "priority": 1}]}
    assert (await master.call("POST", "/job-queues", body)).status == 404


async def test_queues_are_counted(master: MasterUnderTest) -> None:
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, command(3))
        await agent.run(await agent.next_start())
        await wait_for_state(master, task_id, "RUNNING")
        await launch(master, command(2))

        answer = await master.call("GET", "/job-queues/stats?resourcePools=default")

        assert missing_required("determined.api.v1.GetJobQueueStatsResponse", answer.json) == []
        [result] = answer.json["results"]
        assert result["stats"] == {"queuedCount": 1, "scheduledCount": 1}
        [day] = result["aggregates"]
        assert 0 <= day["seconds"] < 60
    assert (await master.call("GET", "/job-queues/stats?resourcePools=none")).status == 404
