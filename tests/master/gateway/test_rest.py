"""REST rules that every RPC shares, tried on a real master."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import grpc.aio
import pytest
from yarl import URL

from shipway_master.gateway.body import BODY_LIMIT_BYTES
from shipway_proto.determined.api.v1.auth_pb2 import LoginRequest
from shipway_proto.determined.api.v1.user_pb2 import GetMeRequest, PostUserRequest
from tests.master.running import MasterUnderTest
from tests.proto.required import missing_required


async def test_both_faces_answer_the_same_on_one_port(master: MasterUnderTest) -> None:
    rest = await master.call("GET", "/me")
    grpc = await master.stub.GetMe(GetMeRequest(), metadata=master.grpc_auth())

    assert rest.status == 200
    assert rest.headers["Content-Type"] == "application/json"
    assert rest.json["user"]["username"] == grpc.user.username == "admin"
    assert missing_required("determined.api.v1.GetMeResponse", rest.json) == []


async def test_a_trailing_slash_is_ignored(master: MasterUnderTest) -> None:
    assert (await master.call("GET", "/me/")).status == 200


@pytest.mark.parametrize(
    ("verb", "path"),
    [("GET", "/nowhere"), ("DELETE", "/me"), ("GET", ""), ("GET", "/me//"), ("GET", "/users//x")],
)
async def test_an_unknown_path_or_verb_is_unimplemented(
    master: MasterUnderTest, verb: str, path: str
) -> None:
    answer = await master.call(verb, path)

    assert answer.status == 501
    assert answer.json == {
        "error": {"code": 12, "reason": "Unimplemented", "error": "Not Implemented"}
    }


async def test_an_rpc_that_is_not_built_says_its_name(master: MasterUnderTest) -> None:
    answer = await master.call("POST", "/groups", {"name": "people"})

    assert (answer.status, answer.error["code"]) == (501, 12)
    assert "CreateGroup" in answer.error["error"]


async def test_a_fixed_path_wins_over_a_parameter(master: MasterUnderTest) -> None:
    answer = await master.call("GET", "/users/setting")

    assert answer.json == {"settings": []}


async def test_a_path_parameter_is_decoded_after_it_is_cut_out(master: MasterUnderTest) -> None:
    answer = await master.call("GET", "/users/a%2Fb%20%C3%A4:c/by-username")

    assert answer.status == 404
    assert answer.error["error"] == "user 'a/b ä:c' not found"


@pytest.mark.parametrize("text", ["x", "1.5", "99999999999", "%20"])
async def test_a_number_in_a_path_must_be_one(master: MasterUnderTest, text: str) -> None:
    answer = await master.call("GET", f"/users/{text}")

    assert (answer.status, answer.error["code"]) == (400, 3)


@pytest.mark.parametrize(
    "content_type", [None, "application/x-www-form-urlencoded", "text/plain", "nonsense"]
)
async def test_a_body_is_json_whatever_its_header_says(
    master: MasterUnderTest, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    body = {"user": {"username": "bob", "active": True}, "isHashed": True}

    answer = await master.call("POST", "/users", body, headers=headers)

    assert (answer.status, answer.json["user"]["username"]) == (200, "bob")


@pytest.mark.parametrize("data", [b"", b"  \n", b"null", b"{}"])
async def test_an_empty_body_is_an_empty_message(master: MasterUnderTest, data: bytes) -> None:
    answer = await master.call("POST", "/auth/login", data=data, token=None)

    assert (answer.status, answer.error["error"]) == (400, "missing argument: username")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"not json",
        b"[]",
        b"7",
        b'"x"',
        b"\xff",
        b"[" * 100_000,
        b'{"user": NaN}',
        b'{"a":1}x',
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    master: MasterUnderTest, data: bytes
) -> None:
    answer = await master.call("POST", "/users", data=data)

    assert (answer.status, answer.error["code"]) == (400, 3)


@pytest.mark.parametrize(
    "body",
    [
        {"user": []},
        {"user": "x"},
        {"user": {"username": 7}},
        {"user": {"admin": "true"}},
        {"user": {"modifiedAt": "yesterday"}},
        {"user": {"agentUserGroup": {"agentUid": 1.5}}},
    ],
    ids=str,
)
async def test_a_wrong_type_is_refused_with_its_place(master: MasterUnderTest, body: Any) -> None:
    answer = await master.call("POST", "/users", body)

    assert (answer.status, answer.error["code"]) == (400, 3)
    assert answer.error["error"].startswith("user")


async def test_unknown_names_and_nulls_are_ignored(master: MasterUnderTest) -> None:
    body = {
        "nonsense": {"a": [1]},
        "user": {"username": "bob", "admin": None, "agentUserGroup": None, "other": 1},
        "password": None,
        "is_hashed": True,
    }

    answer = await master.call("POST", "/users?foo=1&foo.bar=2&user.x=3", body)

    assert answer.status == 200
    assert answer.json["user"] | {"id": 0, "modifiedAt": ""} == {
        "id": 0,
        "username": "bob",
        "admin": False,
        "active": False,
        "agentUserGroup": None,
        "displayName": "",
        "modifiedAt": "",
        "remote": False,
    }


async def test_the_path_wins_over_the_body(master: MasterUnderTest) -> None:
    answer = await master.call("PATCH", "/users/2", {"userId": 1, "displayName": "Det"})

    assert (answer.json["user"]["id"], answer.json["user"]["displayName"]) == (2, "Det")


async def test_a_body_can_be_a_bare_value(master: MasterUnderTest) -> None:
    assert (await master.call("POST", "/users/2/password", "new-Password-1")).status == 200

    login = {"username": "determined", "password": "new-Password-1"}
    assert (await master.call("POST", "/auth/login", login, token=None)).status == 200


async def test_query_parameters_filter_by_presence(master: MasterUnderTest) -> None:
    all_of_them = await master.call("GET", "/users?offset=0&limit=10&nonsense=7")
    inactive = await master.call("GET", "/users?active=false")
    admins = await master.call(
        "GET", "/users?admin=t&sortBy=SORT_BY_USER_NAME&order_by=ORDER_BY_DESC"
    )

    assert [user["username"] for user in all_of_them.json["users"]] == ["admin", "determined"]
    assert inactive.json["users"] == []
    assert [user["username"] for user in admins.json["users"]] == ["admin"]


@pytest.mark.parametrize(
    "query", ["limit=x", "limit=", "limit=1&limit=2", "active=yes", "sortBy=WRONG", "name=%ff"]
)
async def test_a_query_that_cannot_be_read_is_refused(master: MasterUnderTest, query: str) -> None:
    answer = await master.call("GET", f"/users?{query}")

    assert (answer.status, answer.error["code"]) == (400, 3)


async def test_a_body_over_the_limit_is_refused_before_it_is_read(master: MasterUnderTest) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", master.port)
    writer.write(
        f"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {master.admin_token}\r\n"
        f"Content-Length: {BODY_LIMIT_BYTES + 1}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
    writer.close()

    assert head.startswith(b"HTTP/1.1 429 ")
    assert json.loads(body)["error"]["code"] == 8


async def test_a_message_over_the_limit_is_refused(master: MasterUnderTest) -> None:
    body = b'{"password":"' + b"x" * (97 << 20) + b'"}'

    answer = await master.call("POST", "/users", data=body)

    assert (answer.status, answer.error["code"]) == (429, 8)
    assert "message too large" in answer.error["error"]


async def test_nobody_known_sends_only_little(master: MasterUnderTest) -> None:
    answer = await master.call("POST", "/auth/login", data=b"x" * (2 << 20), token=None)

    assert answer.status == 429


async def test_nobody_known_sends_only_little_over_grpc_too(master: MasterUnderTest) -> None:
    request = LoginRequest(username="determined", password="x" * (2 << 20))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await master.stub.Login(request)

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "Login takes 1048576 bytes at most" in (caught.value.details() or "")


async def test_a_call_without_a_message_is_refused(master: MasterUnderTest) -> None:
    log_in: Any = master.channel.stream_unary("/determined.api.v1.Determined/Login")

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await log_in(iter(()))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_gzip_is_used_when_it_is_accepted_and_worth_it(master: MasterUnderTest) -> None:
    for number in range(12):
        await master.call("POST", "/users", {"user": {"username": f"user{number}"}})

    packed = await _raw(master, "Accept-Encoding: deflate, GZIP;q=0.5\r\n")
    plain = await _raw(master, "Accept-Encoding: gzip;q=0, deflate\r\n")

    assert b"content-encoding: gzip" in packed[0].lower()
    assert b"content-encoding" not in plain[0].lower()
    assert len(json.loads(gzip.decompress(packed[1]))["users"]) == 14
    assert json.loads(plain[1])["users"][13]["username"] == "user11"


async def _raw(master: MasterUnderTest, header: str) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", master.port)
    writer.write(
        f"GET /api/v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {master.admin_token}\r\n"
        f"Connection: close\r\n{header}\r\n".encode()
    )
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


async def test_pretty_output_is_indented(master: MasterUnderTest) -> None:
    answer = await master.call("GET", "/me?pretty")

    assert answer.body.startswith(b'{\n  "user": {\n')


async def test_all_answers_carry_the_security_headers(master: MasterUnderTest) -> None:
    for path in ("/me", "/nowhere"):
        answer = await master.call("GET", path)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
        assert answer.headers["X-Xss-Protection"] == "1; mode=block"


async def test_an_encoded_line_end_in_a_path_is_nothing_special(master: MasterUnderTest) -> None:
    user = await master.call("GET", "/users/%0A/by-username")
    assert (user.status, user.error["error"]) == (404, "user '\n' not found")
    async with master.session.get(URL(f"{master.url}/%0A", encoded=True)) as response:
        assert (response.status, await response.json()) == (401, {"message": "Unauthorized"})


async def test_outside_the_api_the_token_is_checked_first(master: MasterUnderTest) -> None:
    async with master.session.get(f"{master.url}/nowhere") as response:
        assert (response.status, await response.json()) == (401, {"message": "Unauthorized"})
    async with master.session.post(f"{master.url}/nowhere", headers=master.auth()) as response:
        assert (response.status, await response.json()) == (
            404,
            {"message": "api not found: POST /nowhere"},
        )


async def test_info_and_health_are_open(master: MasterUnderTest) -> None:
    async with master.session.get(f"{master.url}/info") as response:
        info = await response.json()
    async with master.session.get(f"{master.url}/health") as response:
        health = await response.json()

    assert info["version"] == "0.38.1"
    assert info["telemetry"] == {"enabled": False, "otel_enabled": False, "otel_endpoint": ""}
    assert info["sso_providers"] is None
    assert health["status"] == "up"


async def test_a_browser_finds_a_page(master: MasterUnderTest) -> None:
    async with master.session.get(master.url) as response:
        assert response.content_type == "text/html"
        assert "Shipway" in await response.text()
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        tag = response.headers["ETag"]
    async with master.session.get(master.url, headers={"If-None-Match": tag}) as response:
        assert response.status == 304


async def test_links_to_the_original_s_pages_lead_to_ours(master: MasterUnderTest) -> None:
    async with master.session.get(f"{master.url}/det/login?x=1") as response:
        assert response.url.path == "/"


async def test_what_the_page_shows_is_for_users(master: MasterUnderTest) -> None:
    async with master.session.get(f"{master.url}/page/slot-problems") as response:
        assert response.status == 401
    async with master.session.get(f"{master.url}/page/other.js") as response:
        assert response.status == 404


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Transfer-Encoding: chunked", b"zz\r\n{}\r\n"),
        ("Content-Encoding: gzip\r\nContent-Length: 4", b"{}{}"),
        ("Content-Length: x", b""),
    ],
    ids=["chunks", "gzip", "length"],
)
async def test_a_body_that_is_not_what_its_headers_say_is_refused(
    master: MasterUnderTest, headers: str, body: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", master.port)
    writer.write(
        f"POST /api/v1/users HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {master.admin_token}\r\n"
        f"{headers}\r\n\r\n".encode()
        + body
    )
    status = await asyncio.wait_for(reader.readline(), 60)
    writer.close()

    assert b" 400 " in status


async def test_a_compressed_body_is_read(master: MasterUnderTest) -> None:
    data = gzip.compress(b'{"user": {"username": "bob"}}')

    answer = await master.call("POST", "/users", data=data, headers={"Content-Encoding": "gzip"})

    assert (answer.status, answer.json["user"]["username"]) == (200, "bob")


async def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(master: MasterUnderTest) -> None:
    data = gzip.compress(b" " * (BODY_LIMIT_BYTES + 1))

    answer = await master.call("POST", "/users", data=data, headers={"Content-Encoding": "gzip"})

    assert (answer.status, answer.error["code"]) == (429, 8)


async def test_a_message_over_the_limit_is_refused_over_grpc_too(master: MasterUnderTest) -> None:
    request = PostUserRequest(password="x" * (97 << 20))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await master.stub.PostUser(request, metadata=master.grpc_auth())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_error_may_quote_what_is_no_text(master: MasterUnderTest) -> None:
    path, body = "/workspaces/1/set-resource-quota", rb'{"clusterQuotaPairs": {"\ud800": "a"}}'

    answer = await master.call("POST", path, data=body)

    assert (answer.status, answer.error["code"]) == (400, 3)
    assert "?" in answer.error["error"]
