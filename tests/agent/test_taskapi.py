"""Calls in a task's name: nothing secret gets into what is said of one that failed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from shipway_agent.errors import MasterError
from shipway_agent.master.connection import Endpoint, Timing, connect
from shipway_agent.taskapi import CallFailed, TaskApi


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Give each caller *answer*, whatever it asks; gives the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


def assert_keeps_secrets(error: BaseException) -> None:
    assert error.__suppress_context__, "a traceback would tell all of the cause"
    assert error.__cause__ is None
    for secret in ("the-token", "geheim", "dXNlcjpnZWhlaW0="):
        assert secret not in str(error)


async def test_a_proxy_that_refuses_is_told_without_token_and_password() -> None:
    trust = ssl.create_default_context()
    async with answering(REFUSAL) as port:
        proxy = URL(f"http://user:geheim@127.0.0.1:{port}")
        async with TaskApi("https://m.example", "the-token", trust=trust, proxy=proxy) as api:
            with pytest.raises(CallFailed, match="the proxy answers 407 Proxy Auth") as call:
                await api.get("/api", {})
        assert not call.value.may_have_worked
        endpoint = Endpoint(url=URL("wss://m.example/agents"), tls=trust, proxy=proxy)
        with pytest.raises(MasterError, match="the proxy on the way to wss") as dial:
            async with connect(endpoint, {"version": "1"}, Timing()):
                pass
    assert_keeps_secrets(call.value)
    assert_keeps_secrets(dial.value)


async def test_an_answer_that_is_no_http_is_told_without_the_token() -> None:
    async with (
        answering(b"SSH-2.0-x\r\n") as port,
        TaskApi(f"http://127.0.0.1:{port}", "the-token") as api,
    ):
        with pytest.raises(CallFailed, match="the answer cannot be read") as call:
            await api.get("/api", {})
    assert call.value.may_have_worked
    assert_keeps_secrets(call.value)
