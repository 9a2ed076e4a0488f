"""What workspaces say holds for the tasks in them: user, pools, and whether they take any."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.master.agents.standin import StandInAgent
from tests.master.asking import eventually, launch, wait_for_end
from tests.master.running import USER_ID, MasterUnderTest, Prepared, master_running

NAMES = ("default", "red", "blue")
POOLS: dict[str, Any] = {"resource_pools": [{"pool_name": name} for name in NAMES]}

EXPERIMENT: dict[str, Any] = {
    "name": "e",
    "entrypoint": "true",
    "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 1}},
}


@pytest.fixture
async def master(prepared: Prepared, tmp_path: Path) -> AsyncGenerator[MasterUnderTest]:
    """Run a master with three pools."""
    async with master_running(prepared, tmp_path / "data", **POOLS) as running:
        yield running


def command(slots: int, pool: str = "") -> dict[str, Any]:
    """Write the configuration of a command."""
    return {"entrypoint": ["true"], "resources": {"slots": slots, "resource_pool": pool}}


async def make_workspace(master: MasterUnderTest, name: str, **more: Any) -> int:
    """Make a workspace and return its id."""
    answer = await master.call("POST", "/workspaces", {"name": name, **more})
    assert answer.status == 200, answer.body
    workspace_id: int = answer.json["workspace"]["id"]
    return workspace_id


async def bind(
    master: MasterUnderTest, verb: str, pool: str, *names: str, token: str = "admin"
) -> int:
    """Change the bindings of a pool as `det rp bindings` does; return the status."""
    body = {"resourcePoolName": pool, "workspaceNames": list(names), "workspaceIds": None}
    path = f"/resource-pools/{pool}/workspace-bindings"
    return (await master.call(verb, path, body, token=token)).status


async def list_pools(master: MasterUnderTest, workspace_id: int) -> list[str]:
    """List the pools that a workspace may use."""
    path = f"/workspaces/{workspace_id}/available-resource-pools"
    names: list[str] = (await master.call("GET", path)).json["resourcePools"]
    return names


async def test_tasks_run_as_the_workspaces_user_part_by_part(master: MasterUnderTest) -> None:
    group = {"agentGid": 4000, "agentGroup": "vision"}
    workspace_id = await make_workspace(master, "vision", agentUserGroup=group)
    person = {"agentUid": 1001, "agentUser": "anna", "agentGid": 1001, "agentGroup": "anna"}
    await master.call("PATCH", f"/users/{USER_ID}", {"agentUserGroup": person})

    async with StandInAgent(master.url).connected() as agent:
        for where, expected in ((workspace_id, "1001:4000"), (1, "1001:1001")):
            body = {"config": command(1), "workspaceId": where}
            await master.call("POST", "/commands", body, token="user")
            start = await agent.next_start()
            assert start["Spec"]["RunSpec"]["ContainerConfig"]["User"] == expected
    shell = {"config": {"resources": {"slots": 0}}, "workspaceId": workspace_id}
    await master.call("POST", "/shells", shell, token="user")
    await master.call("POST", "/shells", {**shell, "workspaceId": 1}, token="user")
    shells = (await master.call("GET", "/shells?sortBy=SORT_BY_WORKSPACE_ID")).json["shells"]
    assert [one["agentUserGroup"]["group"] for one in shells] == ["anna", "vision"]
    assert [one["agentUserGroup"]["user"] for one in shells] == ["anna", "anna"]


async def test_tasks_that_name_no_pool_go_to_the_workspaces(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(
        master, "w", defaultComputePool="red", defaultAuxPool="blue"
    )

    for slots, named, expected in (
        (1, "", "red"),
        (0, "", "blue"),
        (1, "default", "default"),
    ):
        task_id = await launch(master, command(slots, named), workspaceId=workspace_id)
        shown = (await master.call("GET", f"/commands/{task_id}")).json["command"]
        assert shown["resourcePool"] == expected
    elsewhere = await launch(master, command(1))
    shown = (await master.call("GET", f"/commands/{elsewhere}")).json["command"]
    assert shown["resourcePool"] == "default"


async def test_what_is_archived_takes_no_new_tasks(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "old")
    path = f"/workspaces/{workspace_id}/projects"
    ids = [
        (await master.call("POST", path, {"name": name})).json["project"]["id"]
        for name in ("open", "closed")
    ]
    running = await launch(master, command(1), workspaceId=workspace_id)

    async def start_in(project_id: int) -> Any:
        body = {"config": "entrypoint: ['true']", "projectId": project_id}
        return await master.call("POST", "/generic-tasks", body)

    await master.call("POST", f"/projects/{ids[1]}/archive")
    in_open, in_closed = await start_in(ids[0]), await start_in(ids[1])
    await master.call("POST", f"/workspaces/{workspace_id}/archive")
    in_open_of_archived = await start_in(ids[0])
    refused = [
        await master.call("POST", kind, {"config": command(1), "workspaceId": workspace_id})
        for kind in ("/commands", "/shells", "/notebooks")
    ]

    assert [one.status for one in (in_open, in_closed, in_open_of_archived)] == [200, 400, 400]
    assert "project 'closed' is archived" in in_closed.error["error"]
    assert {one.status for one in refused} == {400}
    assert all("workspace 'old' is archived" in one.error["error"] for one in refused)
    assert "endTime" not in (await master.call("GET", f"/tasks/{running}")).json["task"]


async def test_a_bound_pool_takes_tasks_of_its_workspaces_alone(master: MasterUnderTest) -> None:
    own, other = [await make_workspace(master, name) for name in ("own", "other")]

    assert await bind(master, "POST", "red", "own") == 200

    await launch(master, command(1, "red"), workspaceId=own)
    for kind in ("/commands", "/notebooks"):
        body = {"config": command(1, "red"), "workspaceId": other}
        refused = await master.call("POST", kind, body)
        assert refused.status == 400
        assert "resource pool red is bound to other workspaces" in refused.error["error"]
    assert await list_pools(master, own) == ["default", "red", "blue"]
    assert await list_pools(master, other) == ["default", "blue"]
    unbound = (await master.call("GET", "/resource-pools?unbound=true")).json["resourcePools"]
    assert [pool["name"] for pool in unbound] == ["default", "blue"]
    barred = await master.call("POST", "/workspaces", {"name": "w", "defaultComputePool": "red"})
    assert barred.status == 400


async def test_no_task_is_moved_into_a_pool_of_others(master: MasterUnderTest) -> None:
    await make_workspace(master, "own")
    await bind(master, "POST", "red", "own")
    await launch(master, command(1))
    [job] = (await master.call("GET", "/job-queues-v2")).json["jobs"]

    body = {"updates": [{"jobId": job["full"]["jobId"], "resourcePool": "red"}]}
    refused = await master.call("POST", "/job-queues", body)

    assert refused.status == 400
    assert "resource pool red is bound to other workspaces" in refused.error["error"]


async def test_bindings_are_changed_and_listed(master: MasterUnderTest) -> None:
    a, b = [await make_workspace(master, name) for name in ("a", "b")]

    async def bound() -> list[int]:
        answer = await master.call("GET", "/resource-pools/red/workspace-bindings")
        ids: list[int] = answer.json["workspaceIds"]
        return ids

    found: list[list[int]] = []
    for verb, names in (
        ("POST", ("a",)),
        ("POST", ("b",)),
        ("DELETE", ("a",)),
        ("PUT", ("a",)),
        ("PUT", ()),
        ("DELETE", ("b",)),
    ):
        assert await bind(master, verb, "red", *names) == 200
        found.append(await bound())
    body = {"resourcePoolName": "red", "workspaceIds": [a, b], "workspaceNames": []}
    await master.call("POST", "/resource-pools/red/workspace-bindings", body)
    path = "/resource-pools/red/workspace-bindings?limit=1&offset=-1"
    last = (await master.call("GET", path)).json
    again = await bind(master, "POST", "red", "Uncategorized", "b")
    await master.call("DELETE", f"/workspaces/{a}")

    assert found == [[a], [a, b], [b], [a], [], []]
    assert (last["workspaceIds"], last["pagination"]["startIndex"]) == ([b], 1)
    assert again == 409
    assert await bound() == [b]


async def test_who_may_bind_what(master: MasterUnderTest) -> None:
    for verb in ("POST", "PUT"):
        assert await bind(master, verb, "default", "Uncategorized") == 400
        assert await bind(master, verb, "none", "Uncategorized") == 404
    for verb in ("POST", "PUT", "DELETE"):
        assert await bind(master, verb, "red", "nowhere") == 404
        assert await bind(master, verb, "red", "Uncategorized", token="user") == 403
    by_id = {"resourcePoolName": "red", "workspaceIds": [77]}
    assert (
        await master.call("POST", "/resource-pools/red/workspace-bindings", by_id)
    ).status == 404


async def test_tasks_end_with_their_workspace_whose_id_is_not_given_again(
    master: MasterUnderTest,
) -> None:
    workspace_id = await make_workspace(master, "w")
    async with StandInAgent(master.url).connected() as agent:
        task_id = await launch(master, command(1), workspaceId=workspace_id)
        start = await agent.next_start()
        await agent.run(start)
        waiting = await launch(master, command(4), workspaceId=workspace_id)

        assert (await master.call("DELETE", f"/workspaces/{workspace_id}")).status == 200

        assert await agent.next_kill() == start["Container"]["id"]
        await agent.end(start, 137)
        await wait_for_end(master, task_id)
        await wait_for_end(master, waiting)
    assert await make_workspace(master, "w") != workspace_id


async def test_tasks_are_counted_by_kind(master: MasterUnderTest) -> None:
    for kind in ("/commands", "/commands", "/shells"):
        await master.call("POST", kind, {"config": command(1)})
    ended = await launch(master, command(1))
    await master.call("POST", f"/commands/{ended}/kill")

    async def is_counted() -> bool:
        counts = (await master.call("GET", "/tasks/count")).json
        return bool(counts == {"commands": 2, "notebooks": 0, "shells": 1, "tensorboards": 0})

    assert await eventually(is_counted)


async def test_an_experiment_that_waits_is_moved_only_where_it_may_be(
    master: MasterUnderTest,
) -> None:
    await make_workspace(master, "own")
    await bind(master, "POST", "red", "own")
    body = {"config": json.dumps(EXPERIMENT), "activate": False}
    made = (await master.call("POST", "/experiments", body)).json["experiment"]

    async def move(pool: str) -> int:
        update = {"updates": [{"jobId": made["jobId"], "resourcePool": pool}]}
        return (await master.call("POST", "/job-queues", update)).status

    assert [await move(pool) for pool in ("nowhere", "red", "blue")] == [400, 400, 200]
    shown = (await master.call("GET", f"/experiments/{made['id']}")).json["experiment"]
    assert shown["resourcePool"] == "blue"


async def test_a_project_is_not_moved_away_from_the_pools_of_its_experiments(
    master: MasterUnderTest,
) -> None:
    own, other = [await make_workspace(master, name) for name in ("own", "other")]
    await bind(master, "POST", "red", "own")
    path = f"/workspaces/{own}/projects"
    project_id = (await master.call("POST", path, {"name": "p"})).json["project"]["id"]
    config = json.dumps({**EXPERIMENT, "resources": {"resource_pool": "red"}})
    body = {"config": config, "projectId": project_id, "activate": False}
    experiment_id = (await master.call("POST", "/experiments", body)).json["experiment"]["id"]

    async def move() -> int:
        change = {"destinationWorkspaceId": other}
        return (await master.call("POST", f"/projects/{project_id}/move", change)).status

    assert await move() == 400
    await master.call("POST", f"/experiments/{experiment_id}/kill")
    assert await move() == 200


async def test_experiments_keep_their_checkpoints_where_the_workspace_says(
    master: MasterUnderTest,
) -> None:
    storage = {"type": "s3", "bucket": "of the workspace", "secret_key": "s"}
    workspace_id = await make_workspace(master, "w", checkpointStorageConfig=storage)
    path = f"/workspaces/{workspace_id}/projects"
    project_id = (await master.call("POST", path, {"name": "p"})).json["project"]["id"]
    config = {**EXPERIMENT, "checkpoint_storage": {"save_trial_best": 7}}

    body = {"config": json.dumps(config), "projectId": project_id, "validateOnly": True}
    made = (await master.call("POST", "/experiments", body)).json["config"]["checkpoint_storage"]

    assert (made["bucket"], made["secret_key"]) == ("of the workspace", "********")
    assert made["save_trial_best"] == 7


@pytest.mark.parametrize("what", ["experiment", "project"])
async def test_trials_of_what_was_moved_run_as_its_new_workspaces_user(
    master: MasterUnderTest, what: str
) -> None:
    user = {"agentUid": 4000, "agentUser": "vision"}
    old = await make_workspace(master, "old")
    new = await make_workspace(master, "new", agentUserGroup=user)
    projects = [
        (await master.call("POST", f"/workspaces/{one}/projects", {"name": f"p{one}"})).json[
            "project"
        ]["id"]
        for one in (old, new)
    ]
    body = {"config": json.dumps(EXPERIMENT), "projectId": projects[0], "activate": False}
    experiment_id = (await master.call("POST", "/experiments", body)).json["experiment"]["id"]

    if what == "project":
        path, change = f"/projects/{projects[0]}/move", {"destinationWorkspaceId": new}
    else:
        path, change = f"/experiments/{experiment_id}/move", {"destinationProjectId": projects[1]}
    assert (await master.call("POST", path, change)).status == 200
    async with StandInAgent(master.url).connected() as agent:
        await master.call("POST", f"/experiments/{experiment_id}/activate")
        start = await agent.next_start()
        assert start["Spec"]["RunSpec"]["ContainerConfig"]["User"] == "4000:0"
        [job] = (await master.call("GET", "/job-queues-v2")).json["jobs"]
        assert job["full"]["workspaceId"] == new
        await master.call("POST", f"/experiments/{experiment_id}/kill")
        await agent.end(start, 137)
