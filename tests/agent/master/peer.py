"""The other end of the websocket, byte for byte: no library, it says only what a test says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

_LIMIT_S = 60
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
_nothing = {
    "MasterSetAgentOptions": None,
    "StartContainer": None,
    "SignalContainer": None,
    "AgentShutdown": None,
}


class Wire:
    """One websocket of the agent. Its pings are answered; all else is the test's."""

    def __init__(
        self, head: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.request, *lines = head
        """The request line."""
        pairs = [line.partition(": ") for line in lines]
        self.headers = {name.lower(): value for name, _, value in pairs}
        self.faults: list[str] = []
        """What a strict peer would have hung up for."""
        self.is_over = asyncio.Event()
        """The agent has closed the TCP connection."""
        self.close_code: int | None = None
        """Of the agent's close frame."""
        self.close_reason = b""
        self._reader, self._writer = reader, writer
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self._pongs: asyncio.Queue[bytes] = asyncio.Queue()

    # what tests do

    async def say(self, message: Any, *, opcode: int = _TEXT) -> None:
        """Send a document, or a text as it is."""
        text = message if isinstance(message, str) else compact(message)
        await self._write(opcode, text.encode())

    async def say_in_bytes(self, message: Any) -> None:
        """Send a document in a binary frame."""
        await self.say(message, opcode=_BINARY)

    async def ping(self, payload: bytes) -> bytes:
        """Send a ping; returns what the next pong brings."""
        await self._write(_PING, payload)
        async with asyncio.timeout(_LIMIT_S):
            return await self._pongs.get()

    async def close(self, code: int | None) -> None:
        """Close as the protocol wants; with None by a close frame that says nothing."""
        await self._write(_CLOSE, b"" if code is None else struct.pack(">H", code) + b"bye")

    def abort(self) -> None:
        """Break the connection off."""
        self._writer.transport.abort()

    async def next(self) -> str:
        """Return the agent's next message, whatever it is."""
        async with asyncio.timeout(_LIMIT_S):
            return await self._texts.get()

    async def next_but_logs(self) -> str:
        """Return the agent's next message that is no line of a log."""
        while json.loads(text := await self.next())["ContainerLog"] is not None:
            pass
        return text

    async def next_log(self) -> str:
        """Return the next line of a log, whatever comes before it."""
        while json.loads(text := await self.next())["ContainerLog"] is None:
            pass
        return text

    async def over(self) -> None:
        """Wait until the agent has closed the TCP connection."""
        async with asyncio.timeout(_LIMIT_S):
            await self.is_over.wait()

    # frames

    async def serve(self) -> None:
        try:
            while self.close_code is None:
                await self._take(*await self._read())
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writer.transport.abort()
            self.is_over.set()

    async def _read(self) -> tuple[int, bytes]:
        first, second = await self._reader.readexactly(2)
        if first & 0xF0 != 0x80:
            self.faults.append(f"first byte {first:#x}: a fragment, or an extension")
        if not second & 0x80:
            self.faults.append("not masked")
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", await self._reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
        mask = await self._reader.readexactly(4)
        masked = await self._reader.readexactly(length)
        keys = mask * (length // 4 + 1)
        plain = int.from_bytes(masked, "big") ^ int.from_bytes(keys[:length], "big")
        return first & 0x0F, plain.to_bytes(length, "big")

    async def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == _TEXT:
            self._texts.put_nowait(payload.decode())
        elif opcode == _PING:
            await self._write(_PONG, payload)
        elif opcode == _CLOSE:
            self.close_code = int.from_bytes(payload[:2], "big")
            self.close_reason = payload[2:]
        elif opcode == _PONG:
            self._pongs.put_nowait(payload)
        else:
            self.faults.append(f"frame of kind {opcode}")

    async def _write(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            size = bytes([length])
        elif length < 1 << 16:
            size = struct.pack(">BH", 126, length)
        else:
            size = struct.pack(">BQ", 127, length)
        self._writer.write(bytes([0x80 | opcode]) + size + payload)
        await self._writer.drain()


class Peer:
    """Listens on a free port of loopback and hands each websocket to the test."""

    def __init__(self) -> None:
        self.port = 0
        self.refusals: list[bytes] = []
        """Whole HTTP answers to give to the next dials instead of a websocket."""
        self.requests: list[str] = []
        """The request line of each dial."""
        self._wires: asyncio.Queue[Wire] = asyncio.Queue()
        self._all: list[Wire] = []

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self.hang_up()
        await self._server.wait_closed()
        assert [fault for wire in self._all for fault in wire.faults] == []

    async def hang_up(self) -> None:
        """Break off all websockets, those that no test has taken as well."""
        while not self._wires.empty():
            self._wires.get_nowait()
        for wire in self._all:
            wire.abort()
            await wire.over()

    async def dialed(self) -> Wire:
        """Wait for the agent's next websocket."""
        async with asyncio.timeout(_LIMIT_S):
            return await self._wires.get()

    async def greeted(self, message: Any) -> Wire:
        """Wait for the agent's next websocket and open the talk with *message*."""
        wire = await self.dialed()
        await wire.say(message)
        return wire

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        self.requests.append(head[0])
        if self.refusals:
            writer.write(self.refusals.pop(0))
            await writer.drain()
            writer.close()
            return
        wire = Wire(head, reader, writer)
        key = wire.headers["sec-websocket-key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        self._all.append(wire)
        self._wires.put_nowait(wire)
        await wire.serve()


def refusal(message: str, *, status: int = 500) -> bytes:
    """Write the HTTP answer of a master that does not want the agent."""
    body = compact({"message": message}).encode()
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def sample(name: str) -> Any:
    """Return a documented message of Determined 0.38.1."""
    return json.loads((Path(__file__).with_name("data") / f"{name}.json").read_text())


def compact(document: Any) -> str:
    """Write a document as it is on the wire: without blanks, its keys in their order."""
    return json.dumps(document, separators=(",", ":"))


def options(*expected: tuple[str, str, Any]) -> Any:
    """Make a master's first message; *expected*: id, state and devices of each container."""
    document = sample("options")
    document["MasterSetAgentOptions"]["ContainersToReattach"] = [
        {"Container": {"id": id_, "state": state, "devices": devices, "description": ""}}
        for id_, state, devices in expected
    ] or None
    return document


def order(**member: Any) -> Any:
    """Make a message of the master with one member."""
    return {**_nothing, **member}


def with_devices(document: Any, devices: list[Any]) -> Any:
    """Return *document* with *devices* in the place of its own of the same ids."""
    if isinstance(document, list):
        return [with_devices(one, devices) for one in document]
    if not isinstance(document, dict):
        return document
    if list(document) == ["id", "brand", "uuid", "type"]:
        return next(device for device in devices if device["id"] == document["id"])
    return {key: with_devices(value, devices) for key, value in document.items()}
