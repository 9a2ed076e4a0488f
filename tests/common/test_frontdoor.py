"""The one port, tried with bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shipway_common.frontdoor import FrontDoor
from shipway_common.frontdoor.preface import Speech, recognize

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "speech"),
    [
        (b"P", None),
        (PREFACE[:-1], None),
        (PREFACE, Speech.HTTP2),
        (PREFACE + b"\x00", Speech.HTTP2),
        (b"G", None),
        (b"\r\n\r\n\r\n", None),
        (b"\n\n", None),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", Speech.HTTP1),
        (b"POST / HTTP/1.1\r\nHost: x\r\n", None),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\nbody", Speech.HTTP1),
        (b"PRI * HTTP/1.1\r\n\r\n", Speech.HTTP1),
        (b"\x16\x03\x01" + b"x" * (1 << 16), Speech.HTTP1),
    ],
)
def test_the_first_bytes_decide(first: bytes, speech: Speech | None) -> None:
    assert recognize(first) is speech


class _Echo(asyncio.Protocol):
    """Sends back what it gets, and after the end of that one line more."""

    def __init__(self, connections: set[asyncio.Transport]) -> None:
        self.connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connections.add(transport)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def eof_received(self) -> bool:
        self.transport.write(b"bye")
        self.transport.close()
        return True


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@asynccontextmanager
async def door_to_echo(
    folder: Path, *, patience_s: float = 10, server: type[_Echo] = _Echo
) -> AsyncGenerator[int]:
    """Run a front door with an echo in place of both servers; yields its port."""
    connections: set[asyncio.Transport] = set()
    loop = asyncio.get_running_loop()
    listening = await loop.create_unix_server(lambda: server(connections), str(folder / "grpc"))
    try:
        async with FrontDoor(folder / "grpc", patience_s=patience_s) as door:
            yield await door.listen("127.0.0.1", 0, lambda: _Echo(connections))
            door.stop_listening()
    finally:
        listening.close()
        for transport in connections:
            transport.abort()
        await asyncio.sleep(0)  # the sockets are closed in the next round of the loop


async def test_http2_goes_through_with_half_closed_connections(folder: Path) -> None:
    async with door_to_echo(folder) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in PREFACE:
            writer.write(bytes([byte]))
            await writer.drain()
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        writer.write(b"more")
        assert await reader.readexactly(4) == b"more"
        writer.write_eof()
        assert await reader.read() == b"bye"
        writer.close()


async def test_http1_is_handed_over_with_the_bytes_read_so_far(folder: Path) -> None:
    async with door_to_echo(folder) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HT")
        await writer.drain()
        writer.write(b"TP/1.1\r\n\r\n")
        assert await reader.readexactly(18) == b"GET / HTTP/1.1\r\n\r\n"
        writer.write(b"body")
        assert await reader.readexactly(4) == b"body"
        writer.close()


async def test_much_data_arrives_whole_however_slowly_it_is_read(folder: Path) -> None:
    data = bytes(range(256)) * (1 << 16)
    async with door_to_echo(folder) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 12)
        writer.write(PREFACE)

        async def send() -> None:
            for start in range(0, len(data), 1 << 16):
                writer.write(data[start : start + (1 << 16)])
                await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            received = await reader.read(-1)
        writer.close()

    assert received == PREFACE + data + b"bye"


async def test_who_does_not_read_is_not_read_from(folder: Path) -> None:
    """A caller that sends and never reads is slowed down; nothing piles up in the master."""
    async with door_to_echo(folder) as port:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.setblocking(False)
            await loop.sock_sendall(caller, PREFACE)
            sent = 0
            with contextlib.suppress(TimeoutError):
                while sent < 256 << 20:
                    async with asyncio.timeout(0.4):
                        await loop.sock_sendall(caller, b"x" * (1 << 20))
                    sent += 1 << 20
    assert sent < 64 << 20


@pytest.mark.parametrize("first", [b"", b"P", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nA: b\r\n"])
async def test_who_does_not_say_what_he_wants_is_hung_up_on(folder: Path, first: bytes) -> None:
    async with door_to_echo(folder, patience_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            async with asyncio.timeout(60):
                await reader.readexactly(1)
        writer.close()


async def test_a_caller_who_leaves_before_he_speaks_leaves_nothing(folder: Path) -> None:
    async with door_to_echo(folder) as port:
        for first in (b"", b"PRI", PREFACE):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(first)
            writer.close()
            await writer.wait_closed()


class _Polite(_Echo):
    """Ends its direction when the other one has ended, and leaves closing to the others."""

    def eof_received(self) -> bool:
        self.transport.write_eof()
        return True


async def test_a_connection_whose_directions_have_both_ended_is_closed(folder: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with door_to_echo(folder, server=_Polite) as port:
        before = count()
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(PREFACE)
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 60) == PREFACE
            writer.close()
            await writer.wait_closed()
        # The other end of each connection stays open: it is the polite one's to close.
        async with asyncio.timeout(60):
            while count() > before + 10:  # noqa: ASYNC110 (nobody here could set an event)
                await asyncio.sleep(0.01)


async def test_no_grpc_server_means_no_connection(folder: Path) -> None:
    async with FrontDoor(folder / "nothing") as door:
        port = await door.listen("127.0.0.1", 0, lambda: _Echo(set()))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 60)
        writer.close()
        door.stop_listening()
