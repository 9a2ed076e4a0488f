"""Workspaces: made, found, changed, deleted, and by whom."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from shipway_master.store.database import opened
from shipway_master.store.workspaces import WorkspaceRow
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required


async def make(master: MasterUnderTest, name: str, *, token: str = "user", **more: Any) -> Any:
    """Make a workspace and return it."""
    answer = await master.call("POST", "/workspaces", {"name": name, **more}, token=token)
    assert missing_required("determined.api.v1.PostWorkspaceResponse", answer.json) == []
    return answer.json["workspace"]


async def get(master: MasterUnderTest, workspace_id: int) -> Any:
    """Fetch a workspace."""
    return (await master.call("GET", f"/workspaces/{workspace_id}")).json["workspace"]


async def test_a_new_workspace_belongs_to_its_maker_and_is_pinned_for_him(
    master: MasterUnderTest,
) -> None:
    made = await make(master, "vision")

    assert made["username"] == "determined"
    assert (made["numProjects"], made["numExperiments"]) == (0, 0)
    assert made["pinned"]
    assert not (await get(master, made["id"]))["pinned"]  # the administrator has no pin


async def test_pins_are_each_users_own(master: MasterUnderTest) -> None:
    workspace_id = (await make(master, "vision"))["id"]

    for _ in range(2):
        assert (await master.call("POST", f"/workspaces/{workspace_id}/pin")).status == 200
        assert (
            await master.call("POST", f"/workspaces/{workspace_id}/unpin", token="user")
        ).status == 200

    pinned = await master.call("GET", "/workspaces?pinned=true")
    assert [one["name"] for one in pinned.json["workspaces"]] == ["vision"]
    pinned = await master.call("GET", "/workspaces?pinned=true", token="user")
    assert pinned.json["workspaces"] == []


async def test_a_name_can_be_seen(master: MasterUnderTest) -> None:
    for name in ("", "  ", "x" * 81, " x", "a\nb"):
        assert (await master.call("POST", "/workspaces", {"name": name})).status == 400


async def test_names_differ_in_more_than_their_case(master: MasterUnderTest) -> None:
    workspace_id = (await make(master, "Straße"))["id"]

    taken = await master.call("POST", "/workspaces", {"name": "STRASSE"})
    renamed = await master.call("PATCH", f"/workspaces/{workspace_id}", {"name": "uncategorized"})
    recased = await master.call("PATCH", f"/workspaces/{workspace_id}", {"name": "STRASSE"})

    assert (taken.status, renamed.status, recased.status) == (409, 409, 200)
    assert recased.json["workspace"]["name"] == "STRASSE"


LISTS = {
    "": ["Uncategorized", "b", "a_b", "aXb"],
    "sortBy=SORT_BY_NAME": ["Uncategorized", "aXb", "a_b", "b"],
    "sortBy=SORT_BY_ID&orderBy=ORDER_BY_DESC": ["aXb", "a_b", "b", "Uncategorized"],
    "name=A_B": ["a_b"],
    "nameCaseSensitive=A_B": [],
    "users=determined": ["b", "aXb"],
    "userIds=1": ["Uncategorized", "a_b"],
    "archived=true": ["b"],
    "offset=-2&limit=1": ["a_b"],
}


async def test_a_list_is_filtered_sorted_and_paged(master: MasterUnderTest) -> None:
    workspace_id = (await make(master, "b"))["id"]
    await make(master, "a_b", token="admin")
    await make(master, "aXb")
    await master.call("POST", f"/workspaces/{workspace_id}/archive", token="user")

    answers = {query: (await master.call("GET", f"/workspaces?{query}")).json for query in LISTS}

    found = {query: [one["name"] for one in answers[query]["workspaces"]] for query in LISTS}
    assert found == LISTS
    message = "determined.api.v1.GetWorkspacesResponse"
    assert [missing_required(message, answer) for answer in answers.values()] == [[]] * len(LISTS)


async def test_an_offset_outside_is_refused(master: MasterUnderTest) -> None:
    assert (await master.call("GET", "/workspaces?offset=9")).status == 400


CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"name": "other"}),
    ("POST", "/archive", None),
    ("POST", "/unarchive", None),
    ("DELETE", "", None),
]


async def test_only_owner_and_administrator_change_it(master: MasterUnderTest) -> None:
    workspace_id = (await make(master, "theirs", token="admin"))["id"]

    for verb, path, body in CHANGES:
        refused = await master.call(verb, f"/workspaces/{workspace_id}{path}", body, token="user")
        granted = await master.call(verb, f"/workspaces/{workspace_id}{path}", body)
        absent = await master.call(verb, f"/workspaces/77{path}", body)
        first = await master.call(verb, f"/workspaces/1{path}", body)

        assert (refused.status, granted.status, absent.status) == (403, 200, 404)
        assert first.status == 400
        assert "immutable" in first.error["error"]


async def test_an_archived_workspace_keeps_its_name_until_it_is_unarchived(
    master: MasterUnderTest,
) -> None:
    workspace_id = (await make(master, "old"))["id"]

    await master.call("POST", f"/workspaces/{workspace_id}/archive")
    refused = await master.call("PATCH", f"/workspaces/{workspace_id}", {"name": "new"})
    await master.call("POST", f"/workspaces/{workspace_id}/unarchive")
    renamed = await master.call("PATCH", f"/workspaces/{workspace_id}", {"name": "new"})

    assert refused.status == 400
    assert renamed.json["workspace"]["name"] == "new"
    assert not renamed.json["workspace"]["archived"]


async def test_only_administrators_say_as_whom_tasks_run(master: MasterUnderTest) -> None:
    group = {"agentUid": 1000, "agentUser": "anna"}
    refused = await master.call(
        "POST", "/workspaces", {"name": "w", "agentUserGroup": group}, token="user"
    )
    workspace_id = (await make(master, "w", token="user"))["id"]
    also_refused = await master.call(
        "PATCH", f"/workspaces/{workspace_id}", {"agentUserGroup": group}, token="user"
    )
    granted = await master.call("PATCH", f"/workspaces/{workspace_id}", {"agentUserGroup": group})
    wrong = await master.call(
        "PATCH", f"/workspaces/{workspace_id}", {"agentUserGroup": {"agentUid": -1}}
    )
    emptied = await master.call("PATCH", f"/workspaces/{workspace_id}", {"agentUserGroup": {}})

    assert (refused.status, also_refused.status, wrong.status) == (403, 403, 400)
    assert granted.json["workspace"]["agentUserGroup"] == group
    assert "agentUserGroup" not in emptied.json["workspace"]


async def test_a_default_pool_must_be_there(master: MasterUnderTest) -> None:
    refused = await master.call("POST", "/workspaces", {"name": "w", "defaultAuxPool": "none"})
    made = await make(master, "w", defaultComputePool="default", defaultAuxPool="default")
    cleared = await master.call(
        "PATCH",
        f"/workspaces/{made['id']}",
        {"defaultComputeResourcePool": "", "defaultAuxResourcePool": None},
    )

    assert refused.status == 400
    assert "none" in refused.error["error"]
    assert (made["defaultComputePool"], made["defaultAuxPool"]) == ("default", "default")
    assert cleared.json["workspace"]["defaultComputePool"] == ""
    assert cleared.json["workspace"]["defaultAuxPool"] == "default"


async def test_checkpoint_storage_is_checked_and_its_secrets_are_not_shown(
    master: MasterUnderTest,
) -> None:
    path = f"/workspaces/{(await make(master, 'w'))['id']}"

    async def patch(**storage: Any) -> Any:
        return await master.call("PATCH", path, {"checkpointStorageConfig": storage}, token="user")

    wrong = await patch(type="s3", bukket="b", access_key="a key")
    unknown = await patch(type="tape")
    stored = await patch(type="s3", bucket="b", access_key="key", secret_key="secret", prefix=None)
    shown = stored.json["workspace"]["checkpointStorageConfig"]
    sent_back = await patch(**{**shown, "bucket": "c"})
    async with opened(master.database_url) as database, database.reading() as session:
        row = await session.scalar(select(WorkspaceRow).where(WorkspaceRow.name == "w"))
    removed = await patch()

    assert (wrong.status, unknown.status) == (400, 400)
    assert "bukket: unknown key; did you mean bucket?" in wrong.error["error"]
    assert "a key" not in wrong.error["error"]
    assert "there is no type 'tape'" in unknown.error["error"]
    masked = {"access_key": "********", "secret_key": "********"}
    assert shown == {"type": "s3", "bucket": "b", **masked}
    assert sent_back.json["workspace"]["checkpointStorageConfig"]["bucket"] == "c"
    assert row is not None
    kept = json.loads(row.checkpoint_storage or "")
    assert kept == {"type": "s3", "bucket": "c", "access_key": "key", "secret_key": "secret"}
    assert "checkpointStorageConfig" not in removed.json["workspace"]


async def test_a_workspace_is_deleted_with_all_that_is_in_it(master: MasterUnderTest) -> None:
    workspace_id = (await make(master, "w"))["id"]
    project = await master.call("POST", f"/workspaces/{workspace_id}/projects", {"name": "p"})
    await master.call("POST", "/templates/t", {"config": {}, "workspaceId": workspace_id})

    deleted = await master.call("DELETE", f"/workspaces/{workspace_id}", token="user")

    assert deleted.json == {"completed": True}
    for path in (
        f"/workspaces/{workspace_id}",
        f"/projects/{project.json['project']['id']}",
        "/templates/t",
    ):
        assert (await master.call("GET", path)).status == 404
    assert (await make(master, "W"))["name"] == "W"  # the name is free again


KUBERNETES: list[tuple[str, str, Any]] = [
    ("GET", "/workspaces/1/list-namespace-bindings", None),
    ("POST", "/workspaces/1/namespace-bindings", {}),
    ("DELETE", "/workspaces/1/namespace-bindings?clusterNames=", None),
    ("POST", "/workspaces/1/set-resource-quota", {}),
    ("GET", "/workspaces/1/get-k8s-resource-quotas", None),
    ("GET", "/namespace-bindings/workspace-ids-with-default-bindings", None),
    ("POST", "/namespace-bindings/bulk-auto-create", {}),
    ("POST", "/workspaces", {"name": "w", "clusterQuotaPairs": {"": 1}}),
    ("PATCH", "/workspaces/1", {"clusterNamespaceMeta": {"": {}}}),
]


async def test_kubernetes_is_not_here(master: MasterUnderTest) -> None:
    for verb, path, body in KUBERNETES:
        answer = await master.call(verb, path, body)

        assert answer.status == 400
        assert "Kubernetes" in answer.error["error"]
