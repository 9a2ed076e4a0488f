"""Logging in, tokens and their carriers."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from pathlib import Path

import aiohttp
import grpc
import pytest
from sqlalchemy import func, select, update

from shipway_master.app import running
from shipway_master.auth import Authenticator
from shipway_master.brake import LoginBrake, pause_s
from shipway_master.errors import PermissionDenied, ResourceExhausted, Unauthenticated
from shipway_master.passwords import client_hash, hash_password, verify_password
from shipway_master.store.database import Database, opened
from shipway_master.store.users import AllocationTokenRow, SessionRow
from shipway_proto.determined.api.v1.auth_pb2 import LoginRequest, LogoutRequest
from shipway_proto.determined.api.v1.user_pb2 import GetMeRequest
from tests.master.running import (
    ADMIN_ID,
    PASSWORD,
    USER_ID,
    MasterUnderTest,
    Prepared,
    make_config,
    until,
)
from tests.master.tasks_in_store import add_task
from tests.proto.required import missing_required

HASHED = client_hash(PASSWORD)


@pytest.fixture
async def database(master: MasterUnderTest) -> AsyncGenerator[Database]:
    """Open the running master's database beside it."""
    async with opened(master.database_url) as database:
        yield database


def test_the_hash_is_that_of_the_clients() -> None:
    assert client_hash("Passw0rdX").startswith("5b12c17d4c02a39f")
    assert len(client_hash("Passw0rdX")) == 128
    assert client_hash("") == ""


async def test_passwords_match_in_both_forms() -> None:
    stored = await hash_password("pä ss", is_hashed=False)

    assert stored is not None
    assert "pä ss" not in stored
    assert await verify_password(stored, "pä ss", is_hashed=False)
    assert await verify_password(stored, client_hash("pä ss"), is_hashed=True)
    assert not await verify_password(stored, "pä ss", is_hashed=True)
    assert not await verify_password(stored, "", is_hashed=True)
    assert not await verify_password("no hash", "pä ss", is_hashed=False)


async def test_a_user_without_password_accepts_the_empty_one_alone() -> None:
    assert await hash_password("", is_hashed=True) is None
    assert await verify_password(None, "", is_hashed=True)
    assert not await verify_password(None, "x", is_hashed=True)


async def test_the_time_of_a_login_tells_nothing_about_who_is_there() -> None:
    async def time_s(stored: str | None) -> float:
        await verify_password(stored, "wrong", is_hashed=False)
        times: list[float] = []
        for _ in range(3):
            begin = time.process_time()  # what others have the processor do does not count
            await verify_password(stored, "wrong", is_hashed=False)
            times.append(time.process_time() - begin)
        return min(times)

    somebody = await hash_password("right", is_hashed=False)
    assert await time_s(None) > await time_s(somebody) / 4


async def test_logging_in_gives_a_token_and_a_cookie(master: MasterUnderTest) -> None:
    body = {"username": "determined", "password": HASHED, "isHashed": True}

    answer = await master.call("POST", "/auth/login", body, token=None)

    assert answer.status == 200
    assert missing_required("determined.api.v1.LoginResponse", answer.json) == []
    assert answer.json["user"]["username"] == "determined"
    cookie = SimpleCookie(answer.headers["Set-Cookie"])["auth"]
    assert (cookie.value, cookie["path"]) == (answer.json["token"], "/")
    left = parsedate_to_datetime(cookie["expires"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < left <= timedelta(days=7)
    me = await master.call("GET", "/me", token=answer.json["token"])
    assert me.json["user"]["id"] == USER_ID


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "missing argument: username"),
        ({"username": "nobody", "password": HASHED, "isHashed": True}, 401, "invalid credentials"),
        ({"username": "nobody", "password": ""}, 401, "invalid credentials"),
        ({"username": "admin", "password": "", "isHashed": True}, 401, "invalid credentials"),
        ({"username": "admin", "password": PASSWORD, "isHashed": True}, 401, "invalid credentials"),
        ({"username": "Admin", "password": PASSWORD}, 401, "invalid credentials"),
    ],
)
async def test_a_wrong_login(
    master: MasterUnderTest, body: dict[str, object], status: int, text: str
) -> None:
    answer = await master.call("POST", "/auth/login", body, token=None)

    assert (answer.status, answer.error["error"]) == (status, text)


async def test_an_inactive_user_cannot_log_in_and_his_tokens_end(master: MasterUnderTest) -> None:
    assert (await master.call("GET", "/me", token="user")).status == 200
    await master.call("PATCH", f"/users/{USER_ID}", {"active": False})

    login = {"username": "determined", "password": HASHED, "isHashed": True}
    refused = await master.call("POST", "/auth/login", login, token=None)
    me = await master.call("GET", "/me", token="user")

    assert (refused.status, refused.error["error"]) == (403, "user is not active")
    assert (me.status, me.error["error"]) == (403, "user does not have permission")


async def test_logging_out_ends_one_session(master: MasterUnderTest) -> None:
    body = {"username": "admin", "password": PASSWORD}
    token = (await master.call("POST", "/auth/login", body, token=None)).json["token"]

    answer = await master.call("POST", "/auth/logout", token=token)

    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["Set-Cookie"].startswith("auth=; ")
    assert (await master.call("GET", "/me", token=token)).status == 401
    assert (await master.call("GET", "/me")).status == 200


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"Authorization": "Bearer {user}"}, "determined"),
        ({"Cookie": "a=b; auth={user}"}, "determined"),
        ({"Grpc-Metadata-x-user-token": "Bearer {user}"}, "determined"),
        ({"Grpc-Metadata-X-Allocation-Token": "Bearer {user}"}, "determined"),
        (
            {"grpc-metadata-x-user-token": "Bearer {user}", "authorization": "Bearer {admin}"},
            "determined",
        ),
        ({"Authorization": "Bearer {user}", "Cookie": "auth={admin}"}, "determined"),
        (
            {"Cookie": "auth={user}", "Grpc-Metadata-x-allocation-token": "Bearer {admin}"},
            "determined",
        ),
        ({"Authorization": "{user}"}, None),
        ({"Authorization": "bearer {user}"}, None),
        ({"Authorization": "Bearer "}, None),
        ({"Authorization": "Bearer wrong", "Cookie": "auth={user}"}, None),
        ({"Cookie": "auth="}, None),
        ({}, None),
    ],
)
async def test_carriers_of_tokens_and_their_precedence(
    master: MasterUnderTest, headers: dict[str, str], name: str | None
) -> None:
    tokens = {"user": master.user_token, "admin": master.admin_token}
    filled = {key: value.format(**tokens) for key, value in headers.items()}

    answer = await master.call("GET", "/me", token=None, headers=filled)

    if name is None:
        assert (answer.status, answer.error["code"]) == (401, 16)
    else:
        assert answer.json["user"]["username"] == name


@pytest.mark.parametrize(
    "key",
    [
        "authorization",
        "x-user-token",
        "x-allocation-token",
        "grpc-metadata-x-user-token",
        "grpc-metadata-x-allocation-token",
    ],
)
async def test_carriers_over_grpc(master: MasterUnderTest, key: str) -> None:
    answer = await master.stub.GetMe(
        GetMeRequest(), metadata=((key, f"Bearer {master.user_token}"),)
    )

    assert answer.user.username == "determined"


async def test_no_token_and_a_wrong_one_differ_in_their_text(master: MasterUnderTest) -> None:
    none = await master.call("GET", "/me", token=None)
    wrong = await master.call("GET", "/me", token="wrong")

    assert (none.status, none.error["error"]) == (401, "token missing")
    assert (wrong.status, wrong.error["error"]) == (401, "invalid credentials")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await master.stub.GetMe(GetMeRequest())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_three_calls_are_open(master: MasterUnderTest) -> None:
    info = await master.call("GET", "/master", token=None)
    telemetry = await master.call("GET", "/master/telemetry", token=None)

    assert (info.status, telemetry.json) == (200, {"enabled": False, "segmentKey": ""})
    assert missing_required("determined.api.v1.GetMasterResponse", info.json) == []
    login = await master.stub.Login(LoginRequest(username="admin", password=PASSWORD))
    assert login.user.username == "admin"


async def test_an_expired_session_is_refused_and_swept_out(database: Database) -> None:
    authenticator = Authenticator(database)
    token, _ = await authenticator.start_session(USER_ID)
    async with database.writing() as session:
        await session.execute(update(SessionRow).values(expires_at=datetime.now(UTC)))

    with pytest.raises(Unauthenticated):
        await authenticator.principal(token)
    await authenticator.start_session(USER_ID)
    async with database.reading() as session:
        assert await session.scalar(select(func.count()).select_from(SessionRow)) == 1


async def test_a_remembered_session_expires_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shipway_master.auth.SESSION_LIFETIME", timedelta(seconds=1))
    authenticator = Authenticator(database)
    token, ends_at = await authenticator.start_session(USER_ID)
    assert (await authenticator.principal(token)).user_id == USER_ID

    async def use() -> None:
        while datetime.now(UTC) < ends_at + timedelta(seconds=10):
            await authenticator.principal(token)

    with pytest.raises(Unauthenticated):
        await use()


async def test_an_allocation_token_acts_as_the_owner_until_the_allocation_ends(
    database: Database,
) -> None:
    authenticator = Authenticator(database)
    token = await authenticator.issue_allocation_token("t.0", owner_id=USER_ID)
    other = await authenticator.issue_allocation_token("t.1", owner_id=USER_ID)

    principal = await authenticator.principal(token)
    assert (principal.username, principal.allocation_id) == ("determined", "t.0")
    assert not principal.has_ended

    await authenticator.end_allocation_tokens("t.0")
    assert (await authenticator.principal(token)).has_ended
    assert not (await authenticator.principal(other)).has_ended


async def test_of_an_ended_allocation_only_late_logs_are_taken(
    master: MasterUnderTest, database: Database
) -> None:
    await add_task(database, "t", ended_at=datetime.now(UTC))
    await add_task(database, "other")
    authenticator = Authenticator(database)
    token = await authenticator.issue_allocation_token("t.0", owner_id=ADMIN_ID)
    await authenticator.end_allocation_tokens("t.0")
    metadata = {"Grpc-Metadata-x-allocation-token": f"Bearer {token}"}
    logs = {"logs": [{"taskId": "t", "allocationId": "t.0", "log": "the last words\n"}]}

    late = await master.call("POST", "/task/logs", logs, token=None, headers=metadata)
    logs["logs"][0]["taskId"] = "other"
    foreign = await master.call("POST", "/task/logs", logs, token=None, headers=metadata)
    me = await master.call("GET", "/me", token=None, headers=metadata)

    assert (late.status, foreign.status, me.status) == (200, 401, 401)


async def test_late_logs_have_their_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shipway_master.auth.LATE_LOGS_LIFETIME", timedelta(0))
    authenticator = Authenticator(database)
    token = await authenticator.issue_allocation_token("t.0", owner_id=USER_ID)
    await authenticator.end_allocation_tokens("t.0")
    with pytest.raises(Unauthenticated):
        await authenticator.principal(token)


async def test_an_allocation_token_survives_a_restart_of_the_master(
    master: MasterUnderTest, database: Database
) -> None:
    token = await Authenticator(database).issue_allocation_token("t.0", owner_id=USER_ID)
    metadata = {"Grpc-Metadata-x-allocation-token": f"Bearer {token}"}

    me = await master.call("GET", "/me", token=None, headers=metadata)
    logout = await master.call("POST", "/auth/logout", token=None, headers=metadata)

    assert me.json["user"]["id"] == USER_ID
    assert (logout.status, logout.error["code"]) == (400, 3)


async def test_outside_the_api_an_allocation_token_is_nobody(
    master: MasterUnderTest, database: Database
) -> None:
    token = await Authenticator(database).issue_allocation_token("t.0", owner_id=USER_ID)

    async with master.session.get(f"{master.url}/x", headers=master.auth(token)) as response:
        assert response.status == 401


async def test_tokens_are_not_in_the_database(master: MasterUnderTest, database: Database) -> None:
    token = await Authenticator(database).issue_allocation_token("t.0", owner_id=USER_ID)
    async with database.reading() as session:
        row = await session.scalar(select(AllocationTokenRow))

    assert row is not None
    assert token not in row.token_hash
    kept = b"".join(path.read_bytes() for path in master.data.iterdir())
    assert master.admin_token.encode() not in kept


async def test_rights_are_the_owners(database: Database) -> None:
    authenticator = Authenticator(database)
    token = await authenticator.issue_allocation_token("t.0", owner_id=USER_ID)
    principal = await authenticator.principal(token)

    principal.require_owner_or_admin(USER_ID)
    for refused in (principal.require_admin, lambda: principal.require_owner_or_admin(1)):
        with pytest.raises(PermissionDenied):
            refused()


async def test_new_rights_count_at_once(master: MasterUnderTest) -> None:
    assert (await master.call("GET", "/master/config", token="user")).status == 403
    await master.call("PATCH", f"/users/{USER_ID}", {"admin": True})

    assert (await master.call("GET", "/master/config", token="user")).status == 200


async def test_logging_out_over_grpc(master: MasterUnderTest) -> None:
    metadata = master.grpc_auth(master.user_token)
    await master.stub.Logout(LogoutRequest(), metadata=metadata)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await master.stub.GetMe(GetMeRequest(), metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_guessing_is_slowed_down_for_that_user_alone(master: MasterUnderTest) -> None:
    async def log_in(user: str, password: str) -> int:
        body = {"username": user, "password": password}
        return (await master.call("POST", "/auth/login", body, token=None)).status

    for number in range(5):
        assert await log_in("determined", f"guess-{number}") == 401
    async with asyncio.TaskGroup() as group:
        late = [group.create_task(log_in("determined", PASSWORD)) for _ in range(40)]
        other = await log_in("admin", PASSWORD)

    statuses = [one.result() for one in late]
    assert set(statuses) == {200, 429}, "the right password waits for its turn, too"
    assert statuses.count(200) >= 8
    assert other == 200


async def test_guesses_that_wait_for_their_turn_do_not_hold_up_the_end_of_the_master(
    prepared: Prepared, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(prepared.folder, folder)
    async with aiohttp.ClientSession() as session, AsyncExitStack() as stack:
        port = (await stack.enter_async_context(running(make_config(folder)))).port

        async def guess() -> int:
            body = {"username": "determined", "password": "a guess"}
            url = f"http://127.0.0.1:{port}/api/v1/auth/login"
            async with session.post(url, json=body) as answer:
                return answer.status

        for _ in range(5):
            assert await guess() == 401
        async with asyncio.TaskGroup() as group:
            late = [group.create_task(guess()) for _ in range(9)]
            await until(lambda: any(one.done() and one.result() == 429 for one in late))
            await stack.aclose()
    statuses = [one.result() for one in late]
    assert set(statuses) <= {401, 429, 503}
    assert statuses.count(503) >= 4, "they were answered, not cut off"


async def test_so_many_wait_for_their_turn_and_no_more() -> None:
    brake = LoginBrake()

    async def guess(*, is_right: bool = False) -> None:
        async with brake.attempt("somebody") as attempt:
            attempt.is_right = is_right

    for _ in range(5):
        await guess()
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(guess(is_right=True))
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhausted):
            await guess()


def test_pauses_grow_with_failures_and_have_an_end() -> None:
    pauses = [pause_s(failures) for failures in range(10_000)]
    assert pauses[:6] == [0, 0, 0, 0, 0, 0.5]
    assert sorted(pauses) == pauses
    assert pauses[-1] == 8
