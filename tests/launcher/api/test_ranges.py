"""Parts of logs, by bytes and by lines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from shipway_launcher.api.logpart import send_log
from shipway_launcher.api.problems import errors_as_problems
from shipway_launcher.api.ranges import Unsatisfiable, find_span, parse_range
from shipway_launcher.errors import TransportError
from shipway_launcher.logs import Span, TextLog

TEN = b"".join(b"line %d\n" % number for number in range(1, 11))


async def part(data: bytes, header: str | None) -> bytes:
    log = TextLog(data)
    span = await find_span(log, parse_range(header))
    return data[span.start : span.end]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, TEN),
        ("bytes=0-5", b"line 1"),
        ("bytes=7-", TEN[7:]),
        ("bytes=-3", b"10\n"),
        ("bytes=-9999", TEN),
        ("bytes=5-99999", TEN[5:]),
        ("lines=1-2", b"line 1\nline 2\n"),
        ("lines=3-3", b"line 3\n"),
        ("lines=9-", b"line 9\nline 10\n"),
        ("lines=9-500", b"line 9\nline 10\n"),
        ("lines=-1", b"line 10\n"),
        ("lines=-2", b"line 9\nline 10\n"),
        ("lines=-10", TEN),
        ("lines=-500", TEN),
        ("lines = 1 - 2", b"line 1\nline 2\n"),
        ("lines=0-2", TEN),
        ("bytes=5-2", TEN),
        ("bytes=0-1,3-4", TEN),
        ("bytes=-", TEN),
        ("pages=1-2", TEN),
        ("nonsense", TEN),
    ],
)
async def test_parts(header: str | None, expected: bytes) -> None:
    assert await part(TEN, header) == expected


@pytest.mark.parametrize(
    ("data", "header", "expected"),
    [
        (b"", "lines=-500", b""),
        (b"", "bytes=5-6", b""),
        (b"", "lines=7-8", b""),
        (b"no end", "lines=-1", b"no end"),
        (b"a\nno end", "lines=-1", b"no end"),
        (b"a\nno end", "lines=2-2", b"no end"),
        (b"\n\n\n", "lines=-2", b"\n\n"),
        (b"a\n\n", "lines=-1", b"\n"),
        (b"\xff\n\x00\n", "lines=2-", b"\x00\n"),
    ],
)
async def test_odd_logs(data: bytes, header: str, expected: bytes) -> None:
    assert await part(data, header) == expected


@pytest.mark.parametrize(
    "header", ["bytes=71-", "lines=11-", "lines=11-12", "lines=-0", "bytes=-0"]
)
async def test_what_is_not_there_cannot_be_had(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        await part(TEN, header)


@pytest.mark.parametrize("count", [1, 2, 499, 500, 501])
async def test_the_end_of_a_large_log(count: int) -> None:
    lines = [b"%06d %s\n" % (number, b"x" * (number % 997)) for number in range(3000)]
    assert await part(b"".join(lines), f"lines=-{count}") == b"".join(lines[-count:])


async def test_the_last_lines_are_found_without_reading_all() -> None:
    class Counting:
        size, modified_at = 1 << 40, None
        read_bytes = 0

        async def read(self, offset: int, limit: int) -> bytes:
            self.read_bytes += limit
            return (b"x" * 99 + b"\n") * (limit // 100) + b"\n" * (limit % 100)

    log = Counting()
    span = await find_span(log, parse_range("lines=-500"))
    assert isinstance(span, Span)
    assert span.end == log.size
    assert log.read_bytes < 1 << 20


@dataclass
class BreaksOff:
    """A log whose disk goes away after so many bytes."""

    good: int
    size: int = 1 << 20
    modified_at: float | None = 1e9

    async def read(self, offset: int, limit: int) -> bytes:
        if offset >= self.good:
            raise TransportError("cannot read output.log: Input/output error")
        return b"x" * min(limit, self.good - offset)


@pytest.mark.parametrize("good", [0, 1000, 1 << 19])
async def test_a_log_that_breaks_off_is_not_taken_for_a_whole_one(good: int) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return await send_log(request, BreaksOff(good))

    app = web.Application(middlewares=[errors_as_problems])
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            if good == 0:
                assert head.startswith(b"HTTP/1.1 500 ")
            else:
                assert await reader.read() == b"x" * good, (
                    "the rest is missing, and nothing else came"
                )
        writer.close()


async def test_who_hangs_up_in_the_middle_of_a_log_is_no_mistake_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await send_log(request, BreaksOff(good=1 << 30, size=1 << 30))
        finally:
            ended.set()

    app = web.Application(middlewares=[errors_as_problems])
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.close()
            await ended.wait()
    assert not [record for record in caplog.records if record.exc_info]
