"""What administrators fix or limit holds for experiments and tasks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shipway_master.policies.model import BadPolicy, Workload, parse_policy
from tests.master.asking import launch
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

EXPERIMENT: dict[str, Any] = {
    "name": "e",
    "entrypoint": "true",
    "hyperparameters": {},
    "searcher": {"name": "single", "metric": "loss", "max_length": {"batches": 1}},
    "max_restarts": 3,
}
WRONG = {
    "": "a policy is a mapping",
    "[1]": "a policy is a mapping",
    "invariants: {}": "no part of a policy",
    "constraints: 5": "it must be a mapping",
    "constraints: {max_slots: 1}": "max_slots: unknown key",
    "constraints: {priority_limit: 0}": "at least 1",
    "constraints: {resources: {max_slots: -1}}": "at least 0",
    "invariant_config: {resources: {slot: 1}}": "did you mean slots?",
    "invariant_config: {a: &x [*x]}": "no finished value",
}


async def put(master: MasterUnderTest, where: str, policy: Any, *, token: str = "admin") -> Any:
    """Set a policy as `det config-policies set` does."""
    body = {"configPolicies": json.dumps(policy), "workloadType": where.rpartition("/")[2]}
    return await master.call("PUT", f"/config-policies/{where}", body, token=token)


async def make_workspace(master: MasterUnderTest, name: str) -> int:
    """Make a workspace and return its id."""
    answer = await master.call("POST", "/workspaces", {"name": name}, token="user")
    workspace_id: int = answer.json["workspace"]["id"]
    return workspace_id


async def create(master: MasterUnderTest, **changes: Any) -> Any:
    """Ask for an experiment, without starting it."""
    config = json.dumps({**EXPERIMENT, **changes})
    return await master.call("POST", "/experiments", {"config": config, "validateOnly": True})


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=[f"{n}" for n in range(len(WRONG))])
def test_what_is_no_policy_is_refused(text: str, told: str) -> None:
    with pytest.raises(BadPolicy, match=told):
        parse_policy(text, Workload.NTSC)


def test_a_configuration_is_checked_by_its_kind() -> None:
    text = "invariant_config: {resources: {slots_per_trial: 2}}"
    assert parse_policy(text, Workload.EXPERIMENT).plain == {
        "invariant_config": {"resources": {"slots_per_trial": 2}}
    }
    with pytest.raises(BadPolicy, match="slots_per_trial: unknown key"):
        parse_policy(text, Workload.NTSC)


async def test_policies_are_kept_shown_without_secrets_and_deleted(
    master: MasterUnderTest,
) -> None:
    workspace_id = await make_workspace(master, "w")
    auth = {"username": "u", "password": "secret"}
    policy = {"invariant_config": {"environment": {"registry_auth": auth}}}
    for where in ("global/NTSC", f"workspaces/{workspace_id}/EXPERIMENT"):
        assert (await master.call("GET", f"/config-policies/{where}")).json == {
            "configPolicies": {}
        }
        stored = await put(master, where, policy)
        shown = await master.call("GET", f"/config-policies/{where}", token="user")
        deleted = await master.call("DELETE", f"/config-policies/{where}")
        gone = await master.call("GET", f"/config-policies/{where}")

        assert stored.json == shown.json
        config = shown.json["configPolicies"]["invariant_config"]
        assert config["environment"]["registry_auth"] == {**auth, "password": "********"}
        assert deleted.status == 200
        assert gone.json == {"configPolicies": {}}
        assert (
            missing_required("determined.api.v1.GetGlobalConfigPoliciesResponse", gone.json) == []
        )


async def test_who_may_set_which(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "own")
    policy = {"constraints": {"priority_limit": 10}}
    statuses = [
        (await put(master, where, policy, token="user")).status
        for where in (
            f"workspaces/{workspace_id}/NTSC",
            "workspaces/1/NTSC",
            "workspaces/77/NTSC",
            "global/NTSC",
            f"workspaces/{workspace_id}/GENERIC",
        )
    ]
    assert statuses == [200, 403, 404, 403, 400]
    for where in ("workspaces/1/NTSC", "global/EXPERIMENT"):
        refused = await master.call("DELETE", f"/config-policies/{where}", token="user")
        assert refused.status == 403


async def test_tasks_get_what_is_fixed_and_no_more_than_is_allowed(
    master: MasterUnderTest,
) -> None:
    workspace_id = await make_workspace(master, "w")
    limits = {"resources": {"max_slots": 2}, "priority_limit": 40}
    fixed = {"environment": {"force_pull_image": True}, "resources": {"weight": 2}}
    await put(master, f"workspaces/{workspace_id}/NTSC", {"invariant_config": fixed})
    cluster_wide = {"invariant_config": {"resources": {"weight": 3}}, "constraints": limits}
    await put(master, "global/NTSC", cluster_wide)

    def command(**resources: Any) -> dict[str, Any]:
        return {"entrypoint": ["true"], "resources": resources}

    task_id = await launch(master, command(slots=1, weight=1), workspaceId=workspace_id)
    config = (await master.call("GET", f"/commands/{task_id}")).json["config"]
    refused = [
        await master.call("POST", "/shells", {"config": {"resources": resources}})
        for resources in ({"slots": 3}, {"slots": 0, "priority": 39})
    ]
    raised = await master.call("POST", f"/commands/{task_id}/set_priority", {"priority": 39})
    lowered = await master.call("POST", f"/commands/{task_id}/set_priority", {"priority": 41})

    assert (config["resources"]["weight"], config["resources"]["slots"]) == (3, 1)
    assert config["environment"]["force_pull_image"] is True
    assert [answer.status for answer in (*refused, raised, lowered)] == [400, 400, 400, 200]
    assert "3 slots are more than the 2 that a policy allows" in refused[0].error["error"]
    assert "priority 39 is higher than 40" in refused[1].error["error"]


async def test_experiments_get_what_is_fixed_and_no_more_than_is_allowed(
    master: MasterUnderTest,
) -> None:
    policy = {
        "invariant_config": {"max_restarts": 0, "resources": {"weight": 4}},
        "constraints": {"resources": {"max_slots": 4}, "priority_limit": 40},
    }
    await put(master, "global/EXPERIMENT", policy)

    made = await create(master, resources={"slots_per_trial": 4})
    refused = [
        await create(master, resources=resources)
        for resources in (
            {"slots_per_trial": 5},
            {"slots_per_trial": 1, "max_slots": 8},
            {"priority": 1},
        )
    ]

    assert made.status == 200, made.body
    config = made.json["config"]
    assert (config["max_restarts"], config["name"]) == (0, "e")
    assert (config["resources"]["weight"], config["resources"]["max_slots"]) == (4, 4)
    assert [answer.status for answer in refused] == [400, 400, 400]
    assert "5 slots are more than the 4 that a policy allows" in refused[0].error["error"]


async def test_an_experiment_that_is_continued_gets_what_is_fixed_and_no_more_than_is_allowed(
    master: MasterUnderTest,
) -> None:
    config = {**EXPERIMENT, "resources": {"slots_per_trial": 2}}
    body = {"config": json.dumps(config), "activate": False}
    number = (await master.call("POST", "/experiments", body)).json["experiment"]["id"]
    path = f"/experiments/{number}"

    async def go_on(overrides: str = "") -> Any:
        await master.call("POST", f"{path}/kill")
        wish = {"id": number, "overrideConfig": overrides}
        return await master.call("POST", "/experiments/continue", wish)

    fixed = {"name": "fixed", "searcher": {"name": "random", "max_trials": 9}}
    limits = {"resources": {"max_slots": 1}}
    await put(master, "global/EXPERIMENT", {"invariant_config": fixed, "constraints": limits})
    wanted = [
        await go_on(),
        await go_on("name: mine"),
        await go_on("{name: mine, resources: {slots_per_trial: 1}}"),
    ]
    shown = (await master.call("GET", path)).json["experiment"]["config"]
    await master.call("POST", f"{path}/kill")

    assert [answer.status for answer in wanted] == [200, 400, 200]
    assert "2 slots are more than the 1 that a policy allows" in wanted[1].error["error"]
    assert (shown["name"], shown["resources"]["slots_per_trial"]) == ("fixed", 1)
    assert shown["searcher"]["name"] == "single"
