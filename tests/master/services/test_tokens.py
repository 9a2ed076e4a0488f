"""Access tokens: made, used, listed, revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.master.running import ADMIN_ID, USER_ID, MasterUnderTest
from tests.proto.required import missing_required


async def create(master: MasterUnderTest, **fields: Any) -> Any:
    """Create a token of the plain user, as himself."""
    answer = await master.call("POST", "/tokens", {"userId": USER_ID, **fields}, token="user")
    assert answer.status == 200
    assert missing_required("determined.api.v1.PostAccessTokenResponse", answer.json) == []
    return answer.json


async def listed(master: MasterUnderTest, query: str = "", *, token: str = "user") -> Any:
    """List tokens."""
    answer = await master.call("GET", f"/tokens?{query}", token=token)
    assert missing_required("determined.api.v1.GetAccessTokensResponse", answer.json) == []
    return answer.json["tokenInfo"]


async def test_a_token_acts_as_its_user_until_it_is_revoked(master: MasterUnderTest) -> None:
    made = await create(master, description="nightly")
    token, path = made["token"], f"/tokens/{made['tokenId']}"

    me = await master.call("GET", "/me", token=token)
    logout = await master.call("POST", "/auth/logout", token=token)
    still = await master.call("GET", "/me", token=token)
    revoked = await master.call("PATCH", path, {"setRevoked": True}, token="user")
    after = await master.call("GET", "/me", token=token)

    assert me.json["user"]["id"] == USER_ID
    assert (logout.status, still.status) == (200, 200)
    assert revoked.json["tokenInfo"]["revoked"] is True
    assert after.status == 401
    again = await master.call("PATCH", path, {"setRevoked": False}, token="user")
    assert again.json["tokenInfo"]["revoked"] is True


@pytest.mark.parametrize(
    ("lifespan", "expected"),
    [
        (None, timedelta(days=30)),
        ("72h", timedelta(hours=72)),
        ("1h30m", timedelta(minutes=90)),
        ("-1", timedelta(days=36500)),
    ],
)
async def test_a_token_lives_as_long_as_was_asked(
    master: MasterUnderTest, lifespan: str | None, expected: timedelta
) -> None:
    await create(master, lifespan=lifespan)

    [info] = await listed(master)

    assert info["tokenType"] == "TOKEN_TYPE_ACCESS_TOKEN"
    ends = datetime.fromisoformat(info["expiry"])
    assert abs(ends - datetime.now(UTC) - expected) < timedelta(minutes=1)


@pytest.mark.parametrize("lifespan", ["0h", "-5h", "3 days", "h", "", "9999999h", "1e9h"])
async def test_a_lifespan_that_cannot_be(master: MasterUnderTest, lifespan: str) -> None:
    body = {"userId": USER_ID, "lifespan": lifespan}

    assert (await master.call("POST", "/tokens", body)).status == 400


async def test_only_active_tokens_are_listed_unless_all_are_asked_for(
    master: MasterUnderTest,
) -> None:
    first, second = await create(master), await create(master, description="b")
    await master.call("PATCH", f"/tokens/{first['tokenId']}", {"setRevoked": True})
    ids = [first["tokenId"], second["tokenId"]]

    assert [info["id"] for info in await listed(master)] == ids[1:]
    assert [info["id"] for info in await listed(master, "showInactive=true")] == ids
    newest = "showInactive=true&orderBy=ORDER_BY_DESC&limit=1"
    assert [info["id"] for info in await listed(master, newest)] == ids[1:]
    one = f"showInactive=true&tokenIds={ids[0]}"
    assert [info["id"] for info in await listed(master, one)] == ids[:1]


async def test_users_have_to_do_with_their_own_tokens_alone(master: MasterUnderTest) -> None:
    made = await create(master)
    body = {"userId": ADMIN_ID}
    by_admin = (await master.call("POST", "/tokens", body)).json

    assert (await master.call("POST", "/tokens", body, token="user")).status == 403
    path = f"/tokens/{by_admin['tokenId']}"
    assert (await master.call("PATCH", path, {"setRevoked": True}, token="user")).status == 403
    assert (await master.call("GET", "/tokens?username=admin", token="user")).status == 403
    assert [info["id"] for info in await listed(master)] == [made["tokenId"]]
    assert len(await listed(master, token="admin")) == 2
    assert len(await listed(master, "username=determined", token="admin")) == 1


async def test_a_token_of_a_user_who_was_shut_out_is_refused(master: MasterUnderTest) -> None:
    made = await create(master)
    assert (await master.call("GET", "/me", token=made["token"])).status == 200

    await master.call("PATCH", f"/users/{USER_ID}", {"active": False})

    assert (await master.call("GET", "/me", token=made["token"])).status == 403


async def test_a_token_nobody_knows(master: MasterUnderTest) -> None:
    answer = await master.call("PATCH", "/tokens/99", {"setRevoked": True})

    assert answer.status == 404
