"""Users, workspaces and the master's own facts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.master.running import ADMIN_ID, PASSWORD, USER_ID, MasterUnderTest
from tests.proto.required import missing_required


async def create(master: MasterUnderTest, **user: Any) -> Any:
    """Create a user and give back what the master says of him."""
    answer = await master.call("POST", "/users", {"user": {"active": True, **user}})
    assert answer.status == 200
    return answer.json["user"]


async def users(master: MasterUnderTest, **query: str) -> list[Any]:
    """List users."""
    text = "&".join(f"{name}={value}" for name, value in query.items())
    found: list[Any] = (await master.call("GET", f"/users?{text}")).json["users"]
    return found


async def test_a_new_user_has_all_that_was_given(master: MasterUnderTest) -> None:
    group = {"agentUid": 1000, "agentGid": 0, "agentUser": "bob", "agentGroup": "root"}
    body = {
        "user": {"username": "bob", "admin": True, "active": True, "agentUserGroup": group},
        "password": "a-Password-5",
        "isHashed": False,
    }

    answer = await master.call("POST", "/users", body)

    assert missing_required("determined.api.v1.PostUserResponse", answer.json) == []
    user = answer.json["user"]
    assert user["id"] > 2  # PostgreSQL may leave numbers out: it sets 32 of them aside at a time
    assert (user["admin"], user["agentUserGroup"]) == (True, group)
    login = {"username": "bob", "password": "a-Password-5"}
    assert (await master.call("POST", "/auth/login", login, token=None)).status == 200


@pytest.mark.parametrize(
    ("user", "status"),
    [
        ({"username": "admin"}, 409),
        ({"username": ""}, 400),
        ({"username": " x"}, 400),
        ({"username": "a\nb"}, 400),
        ({"username": "bob", "agentUserGroup": {"agentUid": 1}}, 400),
    ],
)
async def test_a_user_that_cannot_be(
    master: MasterUnderTest, user: dict[str, Any], status: int
) -> None:
    answer = await master.call("POST", "/users", {"user": user})

    assert answer.status == status
    assert (await master.call("GET", "/users")).json["pagination"]["total"] == 2


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("POST", "/users", {"user": {"username": "bob"}}),
        ("PATCH", f"/users/{ADMIN_ID}", {"displayName": "x"}),
        ("PATCH", f"/users/{USER_ID}", {"admin": True}),
        ("PATCH", f"/users/{USER_ID}", {"username": "x"}),
        ("POST", f"/users/{ADMIN_ID}/password", "x"),
        ("GET", "/master/config", None),
    ],
)
async def test_what_only_administrators_may(
    master: MasterUnderTest, verb: str, path: str, body: Any
) -> None:
    answer = await master.call(verb, path, body, token="user")

    assert (answer.status, answer.error["code"]) == (403, 7)


async def test_everyone_changes_his_own_password_and_name(master: MasterUnderTest) -> None:
    body = {"password": "new-Password-1", "isHashed": False, "displayName": "D"}

    answer = await master.call("PATCH", f"/users/{USER_ID}", body, token="user")

    assert (answer.status, answer.json["user"]["displayName"]) == (200, "D")
    old = {"username": "determined", "password": PASSWORD}
    new = {"username": "determined", "password": "new-Password-1"}
    assert (await master.call("POST", "/auth/login", old, token=None)).status == 401
    assert (await master.call("POST", "/auth/login", new, token=None)).status == 200


async def test_patching_leaves_what_is_not_given(master: MasterUnderTest) -> None:
    bob = await create(master, username="bob", admin=True, displayName="B")

    answer = await master.call("PATCH", f"/users/{bob['id']}", {"active": False, "admin": None})

    changed = answer.json["user"]
    assert (changed["active"], changed["admin"], changed["displayName"]) == (False, True, "B")
    assert changed["modifiedAt"] > bob["modifiedAt"]


async def test_users_cannot_lock_themselves_out(master: MasterUnderTest) -> None:
    answer = await master.call("PATCH", f"/users/{ADMIN_ID}", {"active": False})

    assert answer.status == 400


async def test_a_taken_name_cannot_be_taken_again(master: MasterUnderTest) -> None:
    answer = await master.call("PATCH", f"/users/{USER_ID}", {"username": "admin"})

    assert (answer.status, answer.error["code"]) == (409, 6)


async def test_who_is_not_there_is_not_found(master: MasterUnderTest) -> None:
    by_id = await master.call("GET", "/users/99")
    by_name = await master.call("GET", "/users/nobody/by-username")
    patched = await master.call("PATCH", "/users/99", {"displayName": "x"})

    assert (by_id.status, by_id.error["error"]) == (404, "user '99' not found")
    assert (by_name.status, by_name.error["error"]) == (404, "user 'nobody' not found")
    assert patched.status == 404


async def test_a_remote_user_has_no_password_here(master: MasterUnderTest) -> None:
    bob = await create(master, username="bob", remote=True)

    changed = await master.call("PATCH", f"/users/{bob['id']}", {"password": "x"})
    login = {"username": "bob", "password": ""}
    logged_in = await master.call("POST", "/auth/login", login, token=None)

    assert (changed.status, logged_in.status) == (400, 401)


async def test_lists_are_sorted_filtered_and_cut(master: MasterUnderTest) -> None:
    for name in ("zoe", "bob", "Ann"):
        await create(master, username=name)

    async def names(query: str) -> list[str]:
        answer = await master.call("GET", f"/users?{query}")
        assert missing_required("determined.api.v1.GetUsersResponse", answer.json) == []
        return [user["username"] for user in answer.json["users"]]

    assert await names("") == ["admin", "determined", "zoe", "bob", "Ann"]
    assert await names("sortBy=SORT_BY_NAME&limit=3") == ["admin", "Ann", "bob"]
    assert await names("orderBy=ORDER_BY_DESC&offset=1&limit=2") == ["bob", "zoe"]
    assert await names("offset=-2") == ["bob", "Ann"]
    assert await names("name=O") == ["zoe", "bob"]
    pages = (await master.call("GET", "/users?offset=4&limit=9")).json["pagination"]
    assert pages == {"offset": 4, "limit": 9, "startIndex": 4, "endIndex": 5, "total": 5}
    outside = await master.call("GET", "/users?offset=6")
    assert (outside.status, outside.error["error"]) == (400, "offset out of bounds")


async def test_me_and_the_current_user_are_the_same(master: MasterUnderTest) -> None:
    me = await master.call("GET", "/me", token="user")
    current = await master.call("GET", "/auth/user", token="user")

    assert me.json == current.json
    assert me.json["user"]["username"] == "determined"


async def test_the_first_workspace_is_there(master: MasterUnderTest) -> None:
    one = await master.call("GET", "/workspaces/1")
    by_name = await master.call("GET", "/workspaces?nameCaseSensitive=Uncategorized")
    other_case = await master.call("GET", "/workspaces?nameCaseSensitive=uncategorized")
    any_case = await master.call("GET", "/workspaces?name=uncategorized&archived=false")
    none = await master.call("GET", "/workspaces/2")

    assert missing_required("determined.api.v1.GetWorkspaceResponse", one.json) == []
    assert missing_required("determined.api.v1.GetWorkspacesResponse", by_name.json) == []
    assert one.json["workspace"] == by_name.json["workspaces"][0] == any_case.json["workspaces"][0]
    assert (one.json["workspace"]["name"], one.json["workspace"]["numProjects"]) == (
        "Uncategorized",
        1,
    )
    assert other_case.json["workspaces"] == []
    assert (none.status, none.error["error"]) == (404, "workspace '2' not found")


async def test_many_users_are_switched_at_once(master: MasterUnderTest) -> None:
    bob = (await create(master, username="bob", displayName="Robert"))["id"]
    ids = [bob, 77, ADMIN_ID]

    refused = await master.call("PATCH", "/users", {"userIds": ids}, token="user")
    answer = await master.call("PATCH", "/users", {"userIds": ids, "activate": False})
    off = [one["username"] for one in (await users(master, active="false"))]
    some = {"activate": True, "filters": {"name": "ROB", "admin": False}}
    filtered = await master.call("PATCH", "/users", some)

    assert refused.status == 403
    assert missing_required("determined.api.v1.PatchUsersResponse", answer.json) == []
    assert answer.json["results"] == [
        {"id": bob, "error": ""},
        {"id": 77, "error": "user '77' not found"},
        {"id": ADMIN_ID, "error": "users cannot deactivate themselves"},
    ]
    assert off == ["bob"]
    assert filtered.json["results"] == [{"id": bob, "error": ""}]


async def test_a_user_switched_off_with_others_is_refused_at_once(master: MasterUnderTest) -> None:
    assert (await master.call("GET", "/me", token="user")).status == 200
    await master.call("PATCH", "/users", {"userIds": [USER_ID], "activate": False})
    assert (await master.call("GET", "/me", token="user")).status == 403


async def test_there_are_no_groups(master: MasterUnderTest) -> None:
    answer = await master.call("PATCH", "/users/assignments", {"userIds": [USER_ID]})

    assert answer.status == 501
    assert "no groups" in answer.error["error"]


async def test_the_settings_are_shown_without_secrets(master: MasterUnderTest) -> None:
    answer = await master.call("GET", "/master/config")

    assert answer.json["config"]["security"]["initial_user_password"] == "********"
    assert PASSWORD.encode() not in answer.body
    assert b'"port":0' in answer.body
