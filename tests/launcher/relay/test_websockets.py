"""Websockets pass through the relay, frame by frame."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from shipway_launcher.relay import Relay
from tests.launcher.relay.conftest import eventually
from tests.launcher.relay.master import StandInMaster

PATH = "/proxy/3f0c8d52/lab?token=a%2Fb"


class Echo:
    """Answers each frame with the same; closes when it is told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.close_code: int | None = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request.raw_path)
        socket = web.WebSocketResponse(protocols=("tunnel",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
            elif message.data == "close":
                await socket.close(code=4003, message=b"enough")
            else:
                await socket.send_str(message.data + request.headers["X-Own"])
        self.close_code = socket.close_code
        return socket


@pytest.fixture
def echo(master: StandInMaster) -> Echo:
    echo = Echo()
    master.answer = echo.serve
    return echo


def connect(client: aiohttp.ClientSession, relay: Relay) -> Any:
    url = URL(relay.url + PATH, encoded=True)
    return client.ws_connect(url, protocols=("tunnel",), headers={"X-Own": "!"})


async def test_frames_pass_both_ways_as_they_are(
    echo: Echo, relay: Relay, client: aiohttp.ClientSession
) -> None:
    large = bytes(range(256)) * 8192
    async with connect(client, relay) as socket:
        assert socket.protocol == "tunnel"
        await socket.send_str("día")
        assert await socket.receive_str() == "día!"
        for data in (b"\x00\xff", b"", large):
            await socket.send_bytes(data)
            assert await socket.receive_bytes() == data
    assert echo.seen == [PATH]
    await eventually(lambda: echo.close_code == WSCloseCode.OK)


async def test_the_masters_close_arrives_with_its_reason(
    echo: Echo, relay: Relay, client: aiohttp.ClientSession
) -> None:
    async with connect(client, relay) as socket:
        await socket.send_str("close")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4003, "enough")


async def test_the_loss_of_the_master_closes_the_websocket(
    master: StandInMaster, echo: Echo, relay: Relay, client: aiohttp.ClientSession
) -> None:
    async with connect(client, relay) as socket:
        await socket.send_str("x")
        await socket.receive()
        await master.stop()
        message = await asyncio.wait_for(socket.receive(), 60)
        assert message.type in {WSMsgType.CLOSE, WSMsgType.CLOSED}


async def test_a_refused_handshake_is_answered_as_the_master_did(
    master: StandInMaster, relay: Relay, client: aiohttp.ClientSession
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response(
            {"message": "service not found: x"}, status=404, headers={"X-Why": "gone"}
        )

    master.answer = refuse
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(relay.url + PATH)
    assert refused.value.status == 404
    assert refused.value.headers is not None
    assert refused.value.headers["X-Why"] == "gone"
