"""TensorBoards over experiments and trials."""

from __future__ import annotations

from typing import Any

import yaml

from tests.master.agents.standin import StandInAgent
from tests.master.asking import wait_for_end, wait_for_state
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

STORAGE = {"type": "shared_fs", "host_path": "/data", "storage_path": "ck"}


async def make_experiment(master: MasterUnderTest, *, token: str = "user", **changes: Any) -> int:
    """Make an experiment that nothing of is run."""
    config = {
        "name": "mnist",
        "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 1}},
        "checkpoint_storage": STORAGE,
        **changes,
    }
    body = {"config": yaml.safe_dump(config), "unmanaged": True}
    answer = await master.call("POST", "/experiments", body, token=token)
    assert answer.status == 200, answer.body
    experiment_id: int = answer.json["experiment"]["id"]
    return experiment_id


async def make_trial(master: MasterUnderTest, experiment_id: int) -> int:
    """Make a trial of it."""
    body = {"experimentId": experiment_id, "unmanaged": True, "hparams": {}}
    answer = await master.call("POST", "/trials", body, token="user")
    assert answer.status == 200, answer.body
    trial_id: int = answer.json["trial"]["id"]
    return trial_id


async def start(master: MasterUnderTest, **body: Any) -> dict[str, Any]:
    """Launch a TensorBoard."""
    answer = await master.call("POST", "/tensorboards", body, token="user")
    assert answer.status == 200, answer.body
    launched: dict[str, Any] = answer.json
    return launched


async def test_a_tensorboard_is_started_with_what_it_shows(master: MasterUnderTest) -> None:
    first, second = await make_experiment(master), await make_experiment(master)
    trial = await make_trial(master, first)
    async with StandInAgent(master.url).connected() as agent:
        launched = await start(
            master,
            experimentIds=[second, second],
            trialIds=[trial],
            config={"tensorboard_args": ["--reload_interval=1"]},
        )
        tensorboard = launched["tensorboard"]
        order = await agent.next_start()
        spec = order["Spec"]["RunSpec"]["ContainerConfig"]
        variables = dict(text.split("=", 1) for text in spec["Env"])
        await agent.run(order)
        await wait_for_state(master, tensorboard["id"], "RUNNING")
        shown = await master.call("GET", f"/tensorboards/{tensorboard['id']}")
        listed = await master.call("GET", "/tensorboards?users=determined", token="user")
        task = await master.call("GET", f"/tasks/{tensorboard['id']}")
        job = await master.call("GET", "/job-queues-v2")
        async with master.session.get(f"{master.url}/info") as info:
            cluster_id = (await info.json())["cluster_id"]
        await master.call("POST", f"/tensorboards/{tensorboard['id']}/kill", token="user")
        await agent.end(order, 137)
        ended = await wait_for_end(master, tensorboard["id"])

    base = f"/determined_shared_fs/ck/{cluster_id}/tensorboard/experiment"
    folders = (
        f"exp-{second}:{base}/{second}/,exp-{first}-trial-{trial}:{base}/{first}/trial/{trial}/"
    )
    assert spec["Cmd"][-2:] == [folders, "--reload_interval=1"]
    assert int(variables["TENSORBOARD_PORT"]) in range(2600, 2899)
    assert tensorboard["experimentIds"] == [second]
    assert tensorboard["trialIds"] == [trial]
    assert tensorboard["serviceAddress"] == f"/proxy/{tensorboard['id']}/"
    assert launched["config"]["idle_timeout"] == "5m0s"
    assert launched["config"]["resources"]["slots"] == 0
    assert shown.json["tensorboard"]["state"] == "STATE_RUNNING"
    assert [one["id"] for one in listed.json["tensorboards"]] == [tensorboard["id"]]
    assert task.json["task"]["taskType"] == "TASK_TYPE_TENSORBOARD"
    assert [one["full"]["type"] for one in job.json["jobs"]] == ["TYPE_TENSORBOARD"]
    assert ended["endTime"]
    for name, answer in (
        ("LaunchTensorboard", launched),
        ("GetTensorboard", shown.json),
        ("GetTensorboards", listed.json),
    ):
        assert missing_required(f"determined.api.v1.{name}Response", answer) == []


async def test_what_matches_filters_is_shown_too(master: MasterUnderTest) -> None:
    wanted, _ = await make_experiment(master, name="this"), await make_experiment(master)
    launched = await start(master, filters={"name": "this"}, config={})
    assert launched["tensorboard"]["experimentIds"] == [wanted]


async def test_it_is_for_its_owner_and_administrators(master: MasterUnderTest) -> None:
    experiment = await make_experiment(master)
    async with StandInAgent(master.url).connected() as agent:
        answer = await master.call(
            "POST", "/tensorboards", {"experimentIds": [experiment], "config": {}}
        )
        tensorboard_id = answer.json["tensorboard"]["id"]
        order = await agent.next_start()
        variables = order["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
        port = next(one for one in variables if one.startswith("TENSORBOARD_PORT=")).split("=")[1]
        await agent.run(order, ports={port: 9}, address="127.0.0.1")
        await wait_for_state(master, tensorboard_id, "RUNNING")
        page = f"{master.url}/proxy/{tensorboard_id}/"
        seen: list[int] = []
        for headers in ({}, master.auth(master.user_token), master.auth()):
            async with master.session.get(page, headers=headers) as response:
                seen.append(response.status)
        path = f"/tensorboards/{tensorboard_id}"
        killed = await master.call("POST", f"{path}/kill", token="user")
        moved = await master.call("POST", f"{path}/set_priority", {"priority": 7}, token="user")
        moved_by_owner = await master.call("POST", f"{path}/set_priority", {"priority": 7})

    assert seen == [401, 404, 502]
    assert (killed.status, moved.status, moved_by_owner.status) == (403, 403, 200)


async def test_what_is_not_there_or_not_sound_is_refused(master: MasterUnderTest) -> None:
    mine, theirs = await make_experiment(master), await make_experiment(master, token="admin")
    bodies: list[dict[str, Any]] = [
        {"experimentIds": [99]},
        {"trialIds": [99]},
        {},
        {"experimentIds": [mine], "config": {"environment": 5}},
        {"experimentIds": [mine], "workspaceId": 99},
    ]
    statuses = [(await master.call("POST", "/tensorboards", body)).status for body in bodies]
    assert statuses == [404, 404, 400, 400, 404]
    files = [
        await master.call("DELETE", "/experiments/99/tensorboard-files"),
        await master.call("DELETE", f"/experiments/{theirs}/tensorboard-files", token="user"),
    ]
    assert [answer.status for answer in files] == [404, 403]
    assert (await master.call("GET", "/tensorboards")).json["tensorboards"] == []
