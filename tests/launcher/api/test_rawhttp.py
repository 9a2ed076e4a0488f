"""Callers that speak HTTP badly, pack wrongly, hang up, or send too much at once."""

from __future__ import annotations

import asyncio
import getpass
import gzip
import itertools
import logging
import socket
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shipway_launcher.tokenbook import TokenBook, TokenEntry, digest_of
from shipway_launcher.tokens import new_token
from tests.launcher.api.calling import Answer, Caller
from tests.launcher.api.test_hostile import blames_us

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
        async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
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
    for _ in range(6000):
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
        for _ in range(3000):
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
