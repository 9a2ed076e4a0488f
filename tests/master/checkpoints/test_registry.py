"""The model registry over the API."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_master.store.database import Database
from tests.master.checkpoints_in_store import add_checkpoint
from tests.master.experiments_in_store import add_experiment, add_trial
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

API = "determined.api.v1"


@pytest.fixture
async def checkpoint(database: Database) -> str:
    """A checkpoint of the user."""
    trial_id = await add_trial(database, await add_experiment(database))
    return await add_checkpoint(database, trial_id, validation={"loss": 0.5})


async def call(
    master: MasterUnderTest, verb: str, path: str, body: Any = None, *, token: str = "user"
) -> Any:
    """Call what must succeed."""
    answer = await master.call(verb, path, body, token=token)
    assert answer.status == 200, answer.body
    return answer.json


async def make(master: MasterUnderTest, name: str, **more: Any) -> Any:
    """Make a model."""
    answer = await call(master, "POST", "/models", {"name": name, **more})
    assert missing_required(f"{API}.PostModelResponse", answer) == []
    return answer["model"]


async def register(master: MasterUnderTest, model: str, checkpoint: str, **more: Any) -> Any:
    """Register a checkpoint as a version."""
    body = {"modelName": model, "checkpointUuid": checkpoint, **more}
    answer = await call(master, "POST", f"/models/{model}/versions", body)
    assert missing_required(f"{API}.PostModelVersionResponse", answer) == []
    return answer["modelVersion"]


async def test_a_model_is_kept_and_found_by_its_name_and_id(master: MasterUnderTest) -> None:
    said = {"description": "d", "labels": ["b", "a"], "metadata": {"k": [1, None]}, "notes": "# n"}
    made = await make(master, "cats é", **said, workspaceName=None)

    by_name = await call(master, "GET", "/models/cats%20%C3%A9")
    by_id = await call(master, "GET", f"/models/{made['id']}")

    assert by_name == by_id == {"model": made}
    assert {key: made[key] for key in said} == said
    assert (made["username"], made["workspaceId"], made["numVersions"]) == ("determined", 1, 0)
    assert made["creationTime"] == made["lastUpdatedTime"]


async def test_what_cannot_be_a_model(master: MasterUnderTest) -> None:
    await make(master, "cats")
    for body, status in (
        ({"name": "cats"}, 409),
        ({"name": ""}, 400),
        ({"name": "a/b"}, 400),
        ({"name": "12"}, 400),
        ({"name": " a"}, 400),
        ({"name": "a\nb"}, 400),
        ({"name": "x" * 201}, 400),
        ({"name": "dogs", "workspaceName": "nowhere"}, 404),
        ({"name": "dogs", "workspaceId": 99}, 404),
    ):
        assert (await master.call("POST", "/models", body)).status == status, body
    patch = {"name": "dogs"}
    await make(master, "dogs")
    assert (await master.call("PATCH", "/models/cats", patch)).status == 409
    labels = {"labels": [1]}
    assert (await master.call("PATCH", "/models/cats", labels)).status == 400


async def test_changes(master: MasterUnderTest) -> None:
    made = await make(master, "cats", description="d", labels=["a"], metadata={"a": 1})
    await call(master, "POST", "/workspaces", {"name": "Vision"})

    patch = {"name": "lions", "labels": [], "notes": "n", "workspaceName": "vision"}
    patched = await call(master, "PATCH", "/models/cats", patch)
    await call(master, "POST", "/models/lions/archive")
    refused = await master.call("PATCH", "/models/lions", {"notes": "m"})
    await call(master, "POST", "/models/lions/unarchive")
    moving = {"modelName": "lions", "destinationWorkspaceId": 1}
    await call(master, "POST", "/models/lions/move", moving)

    assert missing_required(f"{API}.PatchModelResponse", patched) == []
    kept = {key: patched["model"][key] for key in ("id", "description", "metadata")}
    assert kept == {key: made[key] for key in kept}
    assert (patched["model"]["labels"], patched["model"]["workspaceId"]) == ([], 2)
    assert patched["model"]["lastUpdatedTime"] > made["lastUpdatedTime"]
    assert refused.status == 400
    assert (await call(master, "GET", "/models/lions"))["model"]["workspaceId"] == 1
    assert (await master.call("GET", "/models/cats")).status == 404


LISTS = [
    ("", ["cats", "dogs", "Mice"]),
    ("orderBy=ORDER_BY_DESC", ["Mice", "dogs", "cats"]),
    ("sortBy=SORT_BY_NAME", ["Mice", "cats", "dogs"]),
    ("sortBy=SORT_BY_NUM_VERSIONS&orderBy=ORDER_BY_DESC&limit=1", ["dogs"]),
    ("sortBy=SORT_BY_LAST_UPDATED_TIME&orderBy=ORDER_BY_DESC&limit=1", ["dogs"]),
    ("name=CE", ["Mice"]),
    ("description=furry", ["cats", "dogs"]),
    ("labels=a&labels=b", ["dogs"]),
    ("archived=true", ["Mice"]),
    ("archived=false", ["cats", "dogs"]),
    ("users=admin", []),
    ("userIds=2", ["cats", "dogs", "Mice"]),
    ("workspaceNames=vision", []),
    ("workspaceIds=1&workspaceIds=7&id=2", ["dogs"]),
    ("offset=-1", ["Mice"]),
]


async def test_lists(master: MasterUnderTest, checkpoint: str) -> None:
    await make(master, "cats", description="a Furry one", labels=["a"])
    await make(master, "dogs", description="furry", labels=["a", "b"])
    await make(master, "Mice", labels=["c", "c", "b"])
    await call(master, "POST", "/models/Mice/archive")
    await register(master, "dogs", checkpoint)

    found: list[tuple[str, list[str]]] = []
    for query, _ in LISTS:
        answer = await call(master, "GET", f"/models?{query}")
        assert missing_required(f"{API}.GetModelsResponse", answer) == []
        found.append((query, [model["name"] for model in answer["models"]]))

    assert found == LISTS
    labels = await call(master, "GET", "/model/labels")
    assert labels == {"labels": ["a", "b", "c"]}
    assert await call(master, "GET", "/model/labels?workspaceId=9") == {"labels": []}


async def test_versions_count_up_and_never_come_again(
    master: MasterUnderTest, checkpoint: str
) -> None:
    made = await make(master, "cats")
    said = {"name": "first", "comment": "c", "labels": ["l"], "metadata": {"a": 1}, "notes": "n"}

    first = await register(master, "cats", checkpoint, **said)
    second = await register(master, str(made["id"]), checkpoint)
    await call(master, "DELETE", "/models/cats/versions/2")
    third = await register(master, "cats", checkpoint)
    answer = await call(master, "GET", "/models/cats/versions?orderBy=ORDER_BY_DESC")
    patch = {"name": "best", "labels": ["x", "y"], "checkpoint": None}
    patched = await call(master, "PATCH", "/models/cats/versions/1", patch)

    assert {key: first[key] for key in said} == said
    assert [one["version"] for one in (first, second, third)] == [1, 2, 3]
    assert first["checkpoint"]["uuid"] == checkpoint
    assert first["checkpoint"]["training"]["searcherMetric"] == 0.5
    assert missing_required(f"{API}.GetModelVersionsResponse", answer) == []
    assert [one["version"] for one in answer["modelVersions"]] == [3, 1]
    assert answer["model"]["numVersions"] == 2
    assert missing_required(f"{API}.PatchModelVersionResponse", patched) == []
    assert patched["modelVersion"]["name"] == "best"
    assert patched["modelVersion"]["comment"] == "c"
    one = await call(master, "GET", "/models/cats/versions/1")
    assert one["modelVersion"] == patched["modelVersion"]


async def test_what_is_not_there(master: MasterUnderTest) -> None:
    await make(master, "cats")
    unknown = {"checkpointUuid": "00000000-0000-0000-0000-000000000000"}
    for verb, path, body in (
        ("GET", "/models/dogs", None),
        ("GET", "/models/77", None),
        ("PATCH", "/models/dogs", {}),
        ("DELETE", "/models/dogs", None),
        ("POST", "/models/dogs/archive", None),
        ("GET", "/models/dogs/versions", None),
        ("GET", "/models/cats/versions/1", None),
        ("PATCH", "/models/cats/versions/1", {}),
        ("DELETE", "/models/cats/versions/1", None),
        ("POST", "/models/cats/versions", unknown),
    ):
        assert (await master.call(verb, path, body)).status == 404, path


async def test_what_is_registered_stays(
    master: MasterUnderTest, database: Database, checkpoint: str
) -> None:
    await make(master, "cats")
    await register(master, "cats", checkpoint)
    gone = {"checkpoints": [{"uuid": checkpoint, "resources": {"resources": {}}}]}
    removal = {"checkpointUuids": [checkpoint]}

    answers = [
        await master.call("PATCH", "/checkpoints", gone),
        await master.call("DELETE", "/checkpoints", removal),
        await master.call("POST", "/checkpoints/rm", {**removal, "checkpointGlobs": ["*"]}),
    ]

    assert [answer.status for answer in answers] == [400, 400, 400]
    problem = f"checkpoint {checkpoint} is version 1 of the model 'cats': delete that first"
    assert answers[0].error["error"] == problem
    await call(master, "DELETE", "/models/cats")
    assert (await master.call("PATCH", "/checkpoints", gone)).status == 200
    await make(master, "cats")
    body = {"checkpointUuid": checkpoint}
    assert (await master.call("POST", "/models/cats/versions", body)).status == 400


async def test_only_owners_delete(master: MasterUnderTest, checkpoint: str) -> None:
    body = {"name": "cats"}
    await call(master, "POST", "/models", body, token="admin")
    body = {"checkpointUuid": checkpoint}
    await call(master, "POST", "/models/cats/versions", body, token="admin")
    own = await register(master, "cats", checkpoint)

    async def delete(path: str) -> int:
        return (await master.call("DELETE", path, token="user")).status

    assert await delete("/models/cats") == 403
    assert await delete("/models/cats/versions/1") == 403
    assert await delete(f"/models/cats/versions/{own['version']}") == 200
