"""Roles and groups: who asks is told that there are none."""

from __future__ import annotations

from typing import Any

from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required

READING: list[tuple[str, str, str, Any]] = [
    ("GetPermissionsSummary", "GET", "/permissions/summary", None),
    ("GetGroupsAndUsersAssignedToWorkspace", "GET", "/roles/workspace/1", None),
    ("GetRolesByID", "POST", "/roles/search/by-ids", {}),
    ("GetRolesAssignedToUser", "GET", "/roles/search/by-user/2", None),
    ("SearchRolesAssignableToScope", "POST", "/roles/search/by-assignability", {}),
    ("ListRoles", "POST", "/roles/search", {"limit": 10}),
    ("GetGroups", "POST", "/groups/search", {"limit": 500}),
]


async def test_there_are_none(master: MasterUnderTest) -> None:
    for rpc, verb, path, body in READING:
        answer = await master.call(verb, path, body, token="user")

        assert answer.status == 200, rpc
        assert missing_required(f"determined.api.v1.{rpc}Response", answer.json) == []
        lists = [name for name, value in answer.json.items() if name != "pagination" and value]
        assert lists == [], rpc


async def test_one_that_is_named_is_not_found(master: MasterUnderTest) -> None:
    for verb, path, body in (
        ("GET", "/roles/workspace/77", None),
        ("POST", "/roles/search/by-ids", {"roleIds": [1]}),
        ("GET", "/roles/search/by-group/1", None),
        ("GET", "/groups/1", None),
    ):
        assert (await master.call(verb, path, body)).status == 404
    assert (await master.call("POST", "/groups/search", {})).status == 400
    assert (await master.call("POST", "/groups", {"name": "g"})).status == 501
