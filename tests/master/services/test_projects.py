"""Projects: made, found, changed, moved, deleted, and by whom."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from shipway_master.store.database import opened
from shipway_master.store.experiments import ExperimentRow
from tests.master.asking import eventually
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

START = datetime(2030, 1, 1, tzinfo=UTC)


async def make_workspace(master: MasterUnderTest, name: str, *, token: str = "user") -> int:
    """Make a workspace and return its id."""
    answer = await master.call("POST", "/workspaces", {"name": name}, token=token)
    workspace_id: int = answer.json["workspace"]["id"]
    return workspace_id


async def make(
    master: MasterUnderTest, workspace_id: int, name: str, *, token: str = "user", **more: Any
) -> Any:
    """Make a project and return it."""
    answer = await master.call(
        "POST", f"/workspaces/{workspace_id}/projects", {"name": name, **more}, token=token
    )
    assert answer.status == 200, answer.body
    assert missing_required("determined.api.v1.PostProjectResponse", answer.json) == []
    return answer.json["project"]


async def add_experiments(master: MasterUnderTest, project_id: int, *hours: int) -> None:
    """Store experiments that began so many hours after `START`; the first has a trial, and ended."""
    async with opened(master.database_url) as database:
        for number, hour in enumerate(hours):
            ended_at = None if number else START + timedelta(days=1)
            experiment_id = await add_experiment(
                database,
                project_id=project_id,
                started_at=START + timedelta(hours=hour),
                state="ACTIVE" if number else "COMPLETED",
                ended_at=ended_at,
            )
            if not number:
                await add_trial(database, experiment_id, project_id=project_id)


async def test_a_project_is_found_by_id_and_by_key(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")

    made = await make(master, workspace_id, "Cats & dogs", description="both")
    chosen = await make(master, workspace_id, "other", key="abc1")

    assert made["key"].startswith("CAT")
    assert len(made["key"]) == 5
    assert chosen["key"] == "ABC1"
    assert (made["username"], made["workspaceName"], made["notes"]) == ("determined", "w", [])
    by_id = await master.call("GET", f"/projects/{made['id']}")
    by_key = await master.call("GET", f"/projects/key/{made['key'].lower()}")
    assert by_id.json["project"] == by_key.json["project"] == made
    assert (await master.call("GET", "/projects/77")).status == 404
    assert (await master.call("GET", "/projects/key/NONE")).status == 404


async def test_names_and_keys_are_checked(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    await make(master, workspace_id, "a", key="key")
    other = await make(master, workspace_id, "other")

    for body, status in (
        ({"name": ""}, 400),
        ({"name": "a\tb"}, 400),
        ({"name": "b", "key": "abcdef"}, 400),
        ({"name": "b", "key": "a-b"}, 400),
        ({"name": "b", "key": "KEY"}, 409),
        ({"name": "A"}, 409),
    ):
        made = await master.call("POST", f"/workspaces/{workspace_id}/projects", body)
        changed = await master.call("PATCH", f"/projects/{other['id']}", body)
        assert (made.status, changed.status) == (status, status)


async def test_a_project_counts_its_experiments(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    project_id = (await make(master, workspace_id, "p"))["id"]
    await add_experiments(master, project_id, 1, 3, 2)

    project = (await master.call("GET", f"/projects/{project_id}")).json["project"]
    workspace = (await master.call("GET", f"/workspaces/{workspace_id}")).json["workspace"]

    assert (project["numExperiments"], project["numActiveExperiments"]) == (3, 2)
    assert project["numRuns"] == 1
    assert project["lastExperimentStartedAt"] == "2030-01-01T03:00:00Z"
    assert (workspace["numProjects"], workspace["numExperiments"]) == (1, 3)
    for path in (f"/projects/{project_id}", f"/workspaces/{workspace_id}"):
        refused = await master.call("DELETE", path)
        assert refused.status == 400
        assert "holds experiments that have not ended" in refused.error["error"]


@pytest.mark.parametrize("kind", ["projects", "workspaces"])
async def test_what_holds_ended_experiments_is_deleted_in_the_background(
    master: MasterUnderTest, kind: str
) -> None:
    workspace_id = await make_workspace(master, "w")
    project_id = (await make(master, workspace_id, "p"))["id"]
    await add_experiments(master, project_id, 1)
    path = f"/{kind}/{project_id if kind == 'projects' else workspace_id}"

    deleted = await master.call("DELETE", path, token="user")

    async def is_gone() -> bool:
        return (await master.call("GET", path)).status == 404

    assert deleted.json == {"completed": False}
    assert await eventually(is_gone)
    assert (await master.call("GET", f"/projects/{project_id}")).status == 404
    async with opened(master.database_url) as database, database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(ExperimentRow)) == 0


async def test_a_deletion_that_fails_says_why(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    project_id = (await make(master, workspace_id, "p"))["id"]
    async with opened(master.database_url) as database:
        experiment_id = await add_experiment(database, project_id=project_id, ended_at=START)

    # by its state it lives, which only somebody with a hand in the database can bring about
    await master.call("DELETE", f"/projects/{project_id}")

    async def has_failed() -> Any:
        project = (await master.call("GET", f"/projects/{project_id}")).json["project"]
        return project if project["state"] == "WORKSPACE_STATE_DELETE_FAILED" else None

    project = await eventually(has_failed)
    assert f"experiment {experiment_id} has not ended" in project["errorMessage"]
    refused = await master.call(
        "POST", "/generic-tasks", {"config": "entrypoint: ['true']", "projectId": project_id}
    )
    assert refused.status == 400


LISTS = {
    "": ["b", "a", "c"],
    "sortBy=SORT_BY_NAME": ["a", "b", "c"],
    "sortBy=SORT_BY_DESCRIPTION&orderBy=ORDER_BY_DESC": ["a", "c", "b"],
    "sortBy=SORT_BY_LAST_EXPERIMENT_START_TIME": ["c", "a", "b"],
    "name=A": ["a"],
    "users=admin": ["c"],
    "userIds=2": ["b", "a"],
    "archived=true": ["b"],
    "offset=-1": ["c"],
    "offset=1&limit=1": ["a"],
}


async def test_a_list_is_filtered_sorted_and_paged(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    b = await make(master, workspace_id, "b", description="1")
    a = await make(master, workspace_id, "a", description="3")
    c = await make(master, workspace_id, "c", description="2", token="admin")
    await master.call("POST", f"/projects/{b['id']}/archive")
    await add_experiments(master, a["id"], 2)
    await add_experiments(master, c["id"], 1)

    path = f"/workspaces/{workspace_id}/projects"
    answers = {query: (await master.call("GET", f"{path}?{query}")).json for query in LISTS}

    found = {query: [one["name"] for one in answers[query]["projects"]] for query in LISTS}
    assert found == LISTS
    message = "determined.api.v1.GetWorkspaceProjectsResponse"
    assert [missing_required(message, answer) for answer in answers.values()] == [[]] * len(LISTS)


async def test_projects_of_all_workspaces(master: MasterUnderTest) -> None:
    await make(master, await make_workspace(master, "w"), "p")

    everywhere = await master.call("GET", "/workspaces/0/projects")

    assert [one["name"] for one in everywhere.json["projects"]] == ["Uncategorized", "p"]
    assert (await master.call("GET", "/workspaces/77/projects")).status == 404


async def test_notes(master: MasterUnderTest) -> None:
    project_id = (await make(master, await make_workspace(master, "w"), "p"))["id"]
    first, second = ({"name": name, "contents": f"# {name}"} for name in ("one", "two"))

    await master.call("POST", f"/projects/{project_id}/notes", first)
    added = await master.call("POST", f"/projects/{project_id}/notes", second)
    put = await master.call("PUT", f"/projects/{project_id}/notes", {"notes": [second]})

    long = {"name": "long", "contents": "x" * 600_000}
    await master.call("PUT", f"/projects/{project_id}/notes", {"notes": [long]})
    too_long = await master.call("POST", f"/projects/{project_id}/notes", long)
    await master.call("PUT", f"/projects/{project_id}/notes", {"notes": [second]})

    assert too_long.status == 400
    assert added.json["notes"] == [first, second]
    assert put.json["notes"] == [second]
    project = (await master.call("GET", f"/projects/{project_id}")).json["project"]
    assert project["notes"] == [second]


CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"description": "changed"}),
    ("POST", "/notes", {"name": "n", "contents": ""}),
    ("PUT", "/notes", {"notes": []}),
    ("POST", "/archive", None),
    ("POST", "/unarchive", None),
]


async def test_only_owners_and_administrators_change_it(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w", token="admin")
    project_id = (await make(master, workspace_id, "p", token="admin"))["id"]

    moving = ("POST", "/move", {"destinationWorkspaceId": workspace_id})
    for verb, path, body in (*CHANGES, moving, ("DELETE", "", None)):
        refused = await master.call(verb, f"/projects/{project_id}{path}", body, token="user")
        granted = await master.call(verb, f"/projects/{project_id}{path}", body)
        absent = await master.call(verb, f"/projects/77{path}", body)
        first = await master.call(verb, f"/projects/1{path}", body)

        assert (refused.status, granted.status, absent.status) == (403, 200, 404)
        assert first.status == 400
        assert "immutable" in first.error["error"]


async def test_a_workspaces_owner_changes_the_projects_in_it_but_moves_none(
    master: MasterUnderTest,
) -> None:
    workspace_id = await make_workspace(master, "w", token="user")
    project_id = (await make(master, workspace_id, "p", token="admin"))["id"]

    body = {"description": "changed"}
    changed = await master.call("PATCH", f"/projects/{project_id}", body, token="user")
    moving = {"destinationWorkspaceId": workspace_id}
    moved = await master.call("POST", f"/projects/{project_id}/move", moving, token="user")

    assert (changed.status, moved.status) == (200, 403)


async def test_what_is_archived_stays_as_it_is(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    project_id = (await make(master, workspace_id, "p"))["id"]
    project, changes = f"/projects/{project_id}", {"name": "q"}

    await master.call("POST", f"{project}/archive")
    while_archived = await master.call("PATCH", project, changes)
    await master.call("POST", f"{project}/unarchive")
    await master.call("POST", f"/workspaces/{workspace_id}/archive")
    shown = (await master.call("GET", project)).json["project"]
    in_archive = [
        await master.call("PATCH", project, changes),
        await master.call("POST", f"{project}/archive"),
        await master.call("POST", f"/workspaces/{workspace_id}/projects", {"name": "new"}),
    ]
    await master.call("POST", f"/workspaces/{workspace_id}/unarchive")

    assert while_archived.status == 400
    assert shown["archived"]
    assert [answer.status for answer in in_archive] == [400, 400, 400]
    assert (await master.call("PATCH", project, changes)).status == 200


async def test_a_project_moves_where_its_name_is_free(master: MasterUnderTest) -> None:
    here, there = await make_workspace(master, "here"), await make_workspace(master, "there")
    project_id = (await make(master, here, "p"))["id"]
    await make(master, there, "P")

    def move(target: int) -> Any:
        body = {"destinationWorkspaceId": target}
        return master.call("POST", f"/projects/{project_id}/move", body)

    taken, immutable, absent = await move(there), await move(1), await move(77)
    await master.call("PATCH", f"/projects/{project_id}", {"name": "q"})
    moved = await move(there)

    assert (taken.status, immutable.status, absent.status, moved.status) == (409, 400, 404, 200)
    shown = (await master.call("GET", f"/projects/{project_id}")).json["project"]
    assert (shown["workspaceId"], shown["workspaceName"]) == (there, "there")


async def test_what_a_user_looked_at_comes_back_newest_first(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    ids = [(await make(master, workspace_id, name))["id"] for name in ("a", "b", "c")]
    kinds = {"activityType": "ACTIVITY_TYPE_GET", "entityType": "ENTITY_TYPE_PROJECT"}

    for project_id in (ids[0], ids[2], ids[0], ids[1]):
        answer = await master.call(
            "POST", "/users/activity", {**kinds, "entityId": project_id}, token="user"
        )
        assert answer.status == 200
    seen = (await master.call("GET", "/user/projects/activity?limit=2", token="user")).json

    assert [one["name"] for one in seen["projects"]] == ["b", "a"]
    assert (await master.call("GET", "/user/projects/activity")).json["projects"] == []
    absent = await master.call("POST", "/users/activity", {**kinds, "entityId": 77})
    assert absent.status == 404
    assert (await master.call("POST", "/users/activity", {"entityId": ids[0]})).status == 400


async def test_a_project_is_deleted(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    project_id = (await make(master, workspace_id, "p"))["id"]

    deleted = await master.call("DELETE", f"/projects/{project_id}", token="user")

    assert deleted.json == {"completed": True}
    assert (await master.call("GET", f"/projects/{project_id}")).status == 404


async def test_of_many_who_want_the_same_one_gets_it(master: MasterUnderTest) -> None:
    workspace_id = await make_workspace(master, "w")
    path = f"/workspaces/{workspace_id}/projects"
    named = [master.call("POST", path, {"name": name}) for name in ("p", "P", "p", "P")]
    pinned = [master.call("POST", f"/workspaces/{workspace_id}/pin") for _ in range(4)]
    spaces = [master.call("POST", "/workspaces", {"name": name}) for name in ("x", "X", "x")]

    answers = await asyncio.gather(*named, *pinned, *spaces)

    statuses = [answer.status for answer in answers]
    assert sorted(statuses[:4]) == [200, 409, 409, 409]
    assert statuses[4:8] == [200] * 4
    assert sorted(statuses[8:]) == [200, 409, 409]
