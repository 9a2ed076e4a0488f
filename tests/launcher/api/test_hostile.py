"""Hostile input on every route: refused in the form of the API, and the launcher goes on."""

from __future__ import annotations

import asyncio
import getpass
import gzip
import itertools
import json
import logging
import random
import socket
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from shipway_launcher.tokenbook import TokenBook, TokenEntry, digest_of
from shipway_launcher.tokens import new_token
from tests.launcher.api.calling import Answer, Caller
from tests.launcher.api.description import load_description, operations
from tests.launcher.manifests import make_manifest, make_query

NAMES = [
    "x",
    "..",
    ".",
    "a b",
    "%00",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "%ff%fe",
    "%0d%0aX-Injected:%201",
    "día",
    "%F0%9F%98%80",
    "'; drop table x; --",
    "${HOME}`id`$(id)",
    "{owner}",
    "x" * 5000,
    "root",
    "*",
    "-rf",
]
QUERIES = [
    "",
    "?impersonate=%00",
    "?impersonate=..%2f..%2fx&dispatchId=..",
    "?impersonate=root%0a&dispatchId=%ff",
    "?impersonate=" + "x" * 3000,
    "?limit=99999999999999999999&offset=-1",
    "?limit=1e3",
    "?limit=%D9%A3",
    "?offset=2147483647&limit=2147483647",
    "?state=NOPE&state=RUNNING",
    "?force=maybe&refresh=maybe",
    "?refresh=true&eventLimit=" + "9" * 400,
    "?&&==&%&%zz",
]
BODIES: list[bytes] = [
    b"",
    b"\0",
    b"null",
    b"[]",
    b'"INFO',
    b"NaN",
    b"1e999",
    b'{"a":' * 20000,
    b"[" * 100000,
    b"\xff\xfe\x00",
    b'{"manifestVersion": "v1", "clientMetadata": {"name": "\\ud800"}, "payloads": [{}]}',
    b"9" * 5000,
    b'{"read": {"allowed": [1, null, {}]}}',
    b'{"read": "x", "write": [], "admin": 7}',
    b'{"read": {"allowed": ["\\u0000", "a\\nb"]}}',
    b'{"root": "LOUD", "nobody.here": "INFO"}',
    b"x" * 4000,
    b"a: &a [1]\nb: [*a, *a]\n",
    b"!!python/object/apply:os.system ['id']",
    b"? [1, 2]\n: 3\n",
    b"%YAML 9.9\n---\n\t- x",
    b"- " * 50000,
]
HEADERS = [
    {},
    {"Content-Type": "application/yaml"},
    {"Content-Type": "application/yaml", "Accept": "application/yaml"},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "\xff/\xff; charset=nonsense"},
    {"Content-Encoding": "gzip"},
    {"Content-Encoding": "deflate"},
    {"Accept": "application/yaml;q=x, */*;q=9e99, ;;;,,"},
    {"Range": "lines=-" + "9" * 5000},
    {"Range": "bytes=" + "9" * 5000 + "-"},
    {"Range": "lines=1-1, bytes=2-2"},
    {"If-Modified-Since": "Mon, 99 Foo 99999999 99:99:99 +9999"},
    {"If-Unmodified-Since": "x", "If-Range": 'W/"', "If-None-Match": '*,"', "If-Match": '"'},
    {"Cache-Control": "max-age=99999999999999999999, no-cache=,=x"},
    {"Expect": "100-continue"},
]


def cases(seed: int, count: int) -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """Make requests to every operation, a number of each."""
    chance = random.Random(seed)
    for method, path in operations(load_description()):
        for _ in range(count):
            filled = path
            for name in ("owner", "environment", "log", "logger", "name"):
                filled = filled.replace(f"{{{name}}}", quote(chance.choice(NAMES), safe="%"))
            body = chance.choice(BODIES) if method == "put" else b""
            query = quote(chance.choice(QUERIES), safe="?&=%")
            yield method.upper(), filled + query, body, chance.choice(HEADERS)


def manifests(seed: int, count: int) -> Iterator[Any]:
    """Make manifests and queries of which one part is something else."""
    chance = random.Random(seed)
    parts: list[Any] = [
        *(None, True, -1, 1 << 70, 1e308, "", "\ud800", "\udcff", "a\0b", "x" * 200_000, [], {}),
        *(
            [[]],
            {"": ""},
            {"\ud800": "\udfff"},
            [None],
            {"a": {"b": {"c": []}}},
            ["\n#SBATCH -n 9"],
        ),
    ]
    for _ in range(count):
        data = chance.choice(
            [make_manifest(archives=["AAAA"]), make_query("Queues"), make_query("Resources")]
        )
        data = json.loads(json.dumps(data))
        place: Any = data
        while True:
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.85:
                place = place[key]
                continue
            place[key] = chance.choice(parts)
            break
        yield data


def blames_us(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return log records with a traceback."""
    return [record.getMessage() for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_operation(call: Caller, caplog: pytest.LogCaptureFixture, seed: int) -> None:
    for method, path, body, headers in cases(seed, 12):
        async with asyncio.timeout(10):
            answer = await call(method, path, body if method == "PUT" else None, headers=headers)
        said = (
            f"{method} {path[:200]} {headers} {body[:80]!r}: {answer.status} {answer.body[:300]!r}"
        )
        assert answer.status < 500, said
        assert "X-Injected" not in answer.headers
        if answer.status >= 400 and method != "HEAD" and answer.kind != "text/plain":
            assert answer.detail, said  # text comes from below the API, where it is no HTTP
    assert not blames_us(caplog)
    await call("PUT", "/admin/log-level", "WARN")


@pytest.mark.parametrize("path", ["/launch", "/launch/async"])
@pytest.mark.parametrize("seed", [1, 2])
async def test_manifests(
    call: Caller, caplog: pytest.LogCaptureFixture, seed: int, path: str
) -> None:
    for data in manifests(seed, 60):
        for body, kind in (
            (json.dumps(data).encode(), "application/json"),
            (yaml.safe_dump(data).encode("utf-8", "replace"), "application/yaml"),
        ):
            async with asyncio.timeout(10):
                answer = await call(
                    "PUT", f"{path}?impersonate=", body, headers={"Content-Type": kind}
                )
            if answer.status == 500:  # right, and there is no Slurm on this machine
                assert "cannot run s" in answer.detail, body[:2000]
            else:
                assert 400 <= answer.status < 500, (answer.status, body[:2000])
                assert answer.detail
    assert not blames_us(caplog)


RAW = [
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /running HTTP/9.9\r\nHost: x\r\n\r\n",
    b"GET /running HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /running HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\x00\r\n\r\n",
    b"PUT /launch HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"PUT /launch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"PUT /launch HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"GET http://[::bad/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //running/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /info/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("data", RAW, ids=range(len(RAW)))
async def test_what_is_hardly_http(
    call: Caller, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    caplog.set_level(logging.WARNING)
    port = int(call.serving.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
    assert not answer or answer.split()[1][:1] in b"4", answer[:300]
    assert (await call("GET", "/info/version/server")).body == b"3.3.7"
    assert not blames_us(caplog)


async def test_callers_that_hang_up_are_forgotten(call: Caller) -> None:
    port = int(call.serving.url.rpartition(":")[2])
    head = (
        "PUT /launch?impersonate= HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        f"Authorization: Bearer {call.serving.token}\r\n\r\n"
    )
    for part, _ in itertools.product((head[:30], head, head + '{"manifest'), range(5)):
        with socket.create_connection(("127.0.0.1", port)) as link:
            link.sendall(part.encode())
    assert (await call("GET", "/running")).status == 200


@pytest.mark.parametrize("packing", ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "x"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"a":' * 20000,
        b"9" * 5000,
        gzip.compress(b"0" * (2 << 20)),
        zlib.compress(b"0" * (2 << 20)),
        gzip.compress(b"credential")[:-1],
        zlib.compress(b"credential")[:-1],
        gzip.compress(b"credential") * 2,
        zlib.compress(b"credential") + b"x",
    ],
    ids=range(9),
)
async def test_what_is_packed_wrongly_is_not_kept(call: Caller, packing: str, body: bytes) -> None:
    path = f"/launch/credentials/{getpass.getuser()}/packed"
    async with asyncio.timeout(20):
        answer = await call("PUT", path, body, headers={"Content-Encoding": packing})
    assert answer.status in (400, 413)
    assert answer.detail
    assert (await call("HEAD", path)).status == 404


async def test_callers_that_hang_up_are_no_mistake_of_ours(
    call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    port = int(call.serving.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"PUT /launch?impersonate= HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        b"Expect: 100-continue\r\n"
        b"Authorization: Bearer " + call.serving.token.encode() + b"\r\n\r\n{"
    )
    assert b" 100 " in await reader.readline(), "it waits for the body"
    writer.close()
    await writer.wait_closed()
    for _ in range(2000):
        if not any("RequestHandler.start" in repr(task) for task in asyncio.all_tasks()):
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail("the request is still waited for")
    assert not blames_us(caplog)


async def test_a_user_who_asks_for_much_at_once_has_to_wait(call: Caller, tmp_path: Path) -> None:
    """Each body that has not come to its end takes room."""
    book = TokenBook(tmp_path / "root")
    tokens = {user: new_token() for user in ("alice", "bob")}
    for user, token in tokens.items():
        book.add(TokenEntry(digest=digest_of(token), user=user, created_at=datetime.now(UTC)))
    head = (
        "PUT /launch HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer {}\r\n\r\n{{"
    )
    port = int(call.serving.url.rpartition(":")[2])
    links = [await asyncio.open_connection("127.0.0.1", port) for _ in range(32)]
    senders = [tokens["alice"]] * 16 + [call.serving.token] * 16
    for (_, writer), token in zip(links, senders, strict=True):
        writer.write(head.format(token).encode())

    async def wait_for(status: int) -> Answer:
        for _ in range(500):
            answer = await call("GET", "/running", token=tokens["alice"])
            if answer.status == status:
                return answer
            await asyncio.sleep(0.02)
        pytest.fail(f"alice is never answered with {status}")

    refused = await wait_for(429)
    assert "of user alice are not answered yet" in refused.detail
    assert refused.headers["Retry-After"] == "1"
    assert (await call("GET", "/running", token=tokens["bob"])).status == 200
    assert (await call("GET", "/running")).status == 200, "administrators are never held up"
    for _, writer in links:
        writer.close()
        await writer.wait_closed()
    await wait_for(200)
