"""Calls that the relay does not answer itself reach the master unchanged, as do the answers."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from shipway_launcher.relay import MasterAddress, Relay, RelaySettings
from tests.launcher.relay.conftest import RunRelay, eventually
from tests.launcher.relay.master import StandInMaster


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=60), auto_decompress=False
    ) as session:
        yield session


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT"])
async def test_verb_path_query_headers_and_body_arrive_as_they_were(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession, verb: str
) -> None:
    async def echo(request: web.Request) -> web.Response:
        seen = [f"{name}={value}" for name, value in request.headers.items()]
        body = await request.read()
        return web.json_response(
            {"verb": request.method, "path": request.raw_path, "headers": seen, "body": list(body)},
            status=207,
            reason="As It Was",
            headers=[("X-Twice", "1"), ("X-Twice", "2"), ("Set-Cookie", "auth=t; Path=/")],
        )

    master.answer = echo
    relay, _ = await run_relay()
    path = "/api/v1/templates/a%2Fb%20c/%C3%A9?x=1&x=2&y=a%26b&empty="
    async with client.request(
        verb,
        URL(relay.url + path, encoded=True),
        data=b"\x00\xff{}",
        headers=[
            ("X-Odd", "ü"),
            ("Authorization", "Bearer u"),
            ("Connection", "x-hop"),
            ("X-Hop", "1"),
        ],
    ) as answer:
        assert (answer.status, answer.reason) == (207, "As It Was")
        assert answer.headers.getall("X-Twice") == ["1", "2"]
        assert answer.headers["Set-Cookie"] == "auth=t; Path=/"
        seen = await answer.json()
    assert (seen["verb"], seen["path"], bytes(seen["body"])) == (verb, path, b"\x00\xff{}")
    assert {"X-Odd=ü", "Authorization=Bearer u", f"Host={master.url[7:]}"} <= set(seen["headers"])
    assert not [header for header in seen["headers"] if header.startswith("X-Hop")]


async def test_a_compressed_answer_is_not_touched(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    packed = gzip.compress(b"{}" * 1000)

    async def answer_packed(request: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    master.answer = answer_packed
    relay, _ = await run_relay()
    async with client.get(relay.url + "/x") as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert answer.headers["Content-Length"] == str(len(packed))
        assert await answer.read() == packed


@pytest.mark.parametrize(("verb", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body_has_none(
    master: StandInMaster,
    run_relay: RunRelay,
    client: aiohttp.ClientSession,
    verb: str,
    status: int,
) -> None:
    async def answer(request: web.Request) -> web.Response:
        headers = {"Content-Length": "5"} if request.method == "HEAD" else {}
        return web.Response(status=status, headers=headers)

    master.answer = answer
    relay, _ = await run_relay()
    for _ in range(2):  # the second on the same connection
        async with client.request(verb, relay.url + "/x") as found:
            assert found.status == status
            assert await found.read() == b""
            assert found.headers.get("Content-Length") == ("5" if verb == "HEAD" else None)


async def test_a_caller_may_ask_before_it_sends_its_body(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    async def echo(request: web.Request) -> web.Response:
        assert "Expect" not in request.headers
        return web.Response(body=await request.read())

    master.answer = echo
    relay, _ = await run_relay()
    async with client.post(relay.url + "/x", data=b"body", expect100=True) as answer:
        assert await answer.read() == b"body"


async def test_an_answer_comes_through_while_it_is_still_being_made(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    go_on = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"result":1}\n')
        await go_on.wait()
        await response.write(b'{"result":2}\n')
        return response

    master.answer = stream
    relay, _ = await run_relay()
    async with client.get(relay.url + "/stream") as answer:
        assert await answer.content.readline() == b'{"result":1}\n'
        go_on.set()
        assert await answer.read() == b'{"result":2}\n'


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_large_body_streams_through_in_both_directions(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession, is_chunked: bool
) -> None:
    size = 120 << 20  # above the limit of the relay's own routes

    async def mirror(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.headers["X-Length"] = request.headers.get("Content-Length", "none")
        await response.prepare(request)
        async for chunk in request.content.iter_any():
            await response.write(chunk)
        return response

    master.answer = mirror
    relay, _ = await run_relay()
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def body() -> AsyncIterator[bytes]:
        block = bytes(range(256)) * 4096
        for _ in range(size // len(block)):
            sent.update(block)
            yield block

    headers = {} if is_chunked else {"Content-Length": str(size)}
    async with client.post(relay.url + "/mirror", data=body(), headers=headers) as answer:
        assert answer.headers["X-Length"] == ("none" if is_chunked else str(size))
        async for chunk in answer.content.iter_any():
            received.update(chunk)
    assert received.digest() == sent.digest()


async def test_the_masters_end_of_a_poll_is_the_only_one(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    """The relay's patience with an absent master must not cut an answer that takes longer."""
    patience_s = 0.2

    async def poll(request: web.Request) -> web.Response:
        await asyncio.sleep(patience_s * 4)
        return web.json_response({"preempt": False})

    master.answer = poll
    relay, _ = await run_relay(master_wait_s=patience_s)
    async with client.get(relay.url + "/poll") as answer:
        assert await answer.json() == {"preempt": False}


async def test_a_caller_who_leaves_ends_the_call_at_the_master(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    states: list[str] = []

    async def hang(request: web.Request) -> web.Response:
        states.append("asked")
        try:
            while request.transport and not request.transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        finally:
            states.append("left")
        return web.Response()

    master.answer = hang
    relay, _ = await run_relay()
    call = asyncio.ensure_future(client.get(relay.url + "/hang").__aenter__())
    await eventually(lambda: states)
    call.cancel()
    await eventually(lambda: states == ["asked", "left"])


async def test_a_call_waits_for_a_master_that_is_just_restarting(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    master.answer = echo
    relay, _ = await run_relay()
    await master.stop()
    async with asyncio.TaskGroup() as group:

        async def ask() -> bytes:
            async with client.post(relay.url + "/echo", data=b"body") as answer:
                return await answer.read()

        asked = group.create_task(ask())
        await asyncio.sleep(0.3)  # the relay has been refused by now
        await master.start()
    assert asked.result() == b"body"


async def test_without_a_master_the_connection_ends_as_the_masters_own_would(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    relay, _ = await run_relay(master_wait_s=0.1)
    await master.stop()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.get(relay.url + "/api/v1/me")


async def test_an_answer_that_breaks_off_does_not_look_whole(
    master: StandInMaster, run_relay: RunRelay, client: aiohttp.ClientSession
) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    master.answer = break_off
    relay, _ = await run_relay()
    with pytest.raises(aiohttp.ClientError):
        async with client.get(relay.url + "/half") as answer:
            await answer.read()


async def test_the_masters_address_is_learned_and_remembered(
    master: StandInMaster, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async def me(request: web.Request) -> web.Response:
        return web.Response(text="it is me")

    master.answer = me
    memory, settings = tmp_path / "master.json", RelaySettings.model_validate({"port": 0})

    async with Relay(settings, tmp_path / "spool", first := MasterAddress(None, memory)) as relay:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_text(client, relay.url + "/api/v1/me"))
            await asyncio.sleep(0.05)  # asked before any manifest came
            await first.learn(master.url)
        assert waiting.result() == "it is me"
    async with Relay(settings, tmp_path / "spool", MasterAddress(None, memory)) as relay:
        assert await _text(client, relay.url + "/api/v1/me") == "it is me"


async def _text(client: aiohttp.ClientSession, url: str) -> str:
    async with client.get(url) as answer:
        return await answer.text()
