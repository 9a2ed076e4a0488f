"""Templates: kept, listed, changed."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_master.services.templates import complete_config
from shipway_master.store.database import opened
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

CONFIG: dict[str, Any] = {"resources": {"slots": 2, "resource_pool": "gpu"}, "description": "é"}


async def create(master: MasterUnderTest, name: str, config: Any = CONFIG) -> None:
    """Create a template."""
    body = {"name": name, "config": config, "workspaceId": 0}
    answer = await master.call("POST", f"/templates/{name}", body)
    assert missing_required("determined.api.v1.PostTemplateResponse", answer.json) == []


async def test_a_template_is_kept_as_it_was_sent(master: MasterUnderTest) -> None:
    await create(master, "t1")

    answer = await master.call("GET", "/templates/t1", token="user")

    assert answer.json == {"template": {"name": "t1", "workspaceId": 1, "config": CONFIG}}


async def test_a_name_is_given_once(master: MasterUnderTest) -> None:
    await create(master, "t1")
    await create(master, "t2")

    assert (await master.call("POST", "/templates/t1", {"config": {}})).status == 409
    renaming = {"oldName": "t1", "newName": "t2"}
    assert (await master.call("PATCH", "/template/rename", renaming)).status == 409
    assert (await master.call("GET", "/templates/t1")).json["template"]["config"] == CONFIG


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", "/templates/none", None),
        ("PATCH", "/templates/none", {"a": 1}),
        ("DELETE", "/templates/none", None),
        ("PATCH", "/template/rename", {"oldName": "none", "newName": "x"}),
        ("POST", "/templates/x", {"workspaceId": 77}),
    ],
)
async def test_what_is_not_there(master: MasterUnderTest, verb: str, path: str, body: Any) -> None:
    assert (await master.call(verb, path, body)).status == 404


async def test_changes(master: MasterUnderTest) -> None:
    await create(master, "t1")

    patched = await master.call("PATCH", "/templates/t1", {"a": [1, None]})
    put = await master.call("PUT", "/templates/t2", {"config": {"b": 1}, "workspaceId": 1})
    renamed = await master.call("PATCH", "/template/rename", {"oldName": "t1", "newName": "t3"})
    deleted = await master.call("DELETE", "/templates/t2")

    assert patched.json["template"]["config"] == {"a": [1, None]}
    assert put.json["template"]["name"] == "t2"
    assert renamed.json["template"]["config"] == {"a": [1, None]}
    assert deleted.json == {}
    names = [one["name"] for one in (await master.call("GET", "/templates")).json["templates"]]
    assert names == ["t3"]


@pytest.mark.parametrize(
    ("query", "names", "end"),
    [
        ("", ["a", "b1", "b2"], 3),
        ("orderBy=ORDER_BY_DESC", ["b2", "b1", "a"], 3),
        ("name=B", ["b1", "b2"], 2),
        ("offset=1&limit=1", ["b1"], 2),
        ("offset=-1", ["b2"], 3),
        ("offset=9", [], 3),
        ("limit=-2", [], 0),
        ("limit=-1", ["a", "b1", "b2"], 3),
        ("workspaceIds=7", [], 0),
    ],
)
async def test_a_list_is_filtered_and_paged(
    master: MasterUnderTest, query: str, names: list[str], end: int
) -> None:
    for name in ("b2", "a", "b1"):
        await create(master, name)

    answer = (await master.call("GET", f"/templates?{query}")).json

    assert [template["name"] for template in answer["templates"]] == names
    assert answer["pagination"]["endIndex"] == end
    assert missing_required("determined.api.v1.GetTemplatesResponse", answer) == []


async def test_a_configuration_lies_over_its_template(master: MasterUnderTest) -> None:
    await create(master, "t1", {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}})
    given = {"a": {"y": [3], "w": None}, "b": None, "c": 5}

    async with opened(master.database_url) as database:
        completed = await complete_config(database, "t1", given)

    assert completed == {"a": {"x": 1, "y": [3], "w": None}, "b": 1, "c": 5}
