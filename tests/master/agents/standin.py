"""An agent that speaks the websocket as the Go agent does, driven step by step by a test."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self

import aiohttp

KILLED = {
    "FailureType": "container failed with non-zero exit code",
    "ErrMsg": "container failed with non-zero exit code: 137",
    "ExitCode": 137,
}
GONE = {
    "FailureType": "container failed to restore after agent failure",
    "ErrMsg": "container is gone on reattachment",
    "ExitCode": None,
}
MISSING = {
    "FailureType": "request for action on unknown container",
    "ErrMsg": "container is gone on reattachment",
    "ExitCode": None,
}


class Dismissed(Exception):
    """The master refused the connection; `status` and `message` say how."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status, self.message = status, message


def make_devices(count: int) -> list[dict[str, Any]]:
    """Make devices as an agent names them."""
    return [
        {"id": number, "brand": "Artificial", "uuid": f"uuid-{number}", "type": "cuda"}
        for number in range(count)
    ]


class StandInAgent:
    """One agent process; each `connected` is one socket of it."""

    def __init__(
        self, url: str, agent_id: str = "agent-a", *, slots: int = 4, pool: str = "default"
    ) -> None:
        self.url, self.id, self.pool = url, agent_id, pool
        self.devices = make_devices(slots)
        self.options: dict[str, Any] = {}
        self.starts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.kills: asyncio.Queue[str] = asyncio.Queue()
        self.shutdowns: asyncio.Queue[str] = asyncio.Queue()
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    @asynccontextmanager
    async def connected(
        self, *, reconnect: bool = False, acks: Sequence[Mapping[str, Any]] | None = ()
    ) -> AsyncGenerator[Self]:
        """Dial, take the options, and (unless *acks* is None) say what the agent has."""
        async with aiohttp.ClientSession() as session:
            self._socket = await self._dial(session, reconnect=reconnect)
            self.options = await self._receive("MasterSetAgentOptions")
            if acks is not None:
                await self.say_started(acks)
            reader = asyncio.create_task(self._read())
            try:
                yield self
            finally:
                reader.cancel()
                await asyncio.wait([reader])
                await self._socket.close()

    async def _dial(
        self, session: aiohttp.ClientSession, *, reconnect: bool
    ) -> aiohttp.ClientWebSocketResponse:
        query = {
            "id": self.id,
            "version": "0.38.1",
            "resource_pool": self.pool,
            "reconnect": "true" if reconnect else "false",
            "hostname": "node-a",
        }
        try:
            return await session.ws_connect(
                f"{self.url}/agents", params=query, max_msg_size=128 * 2**20
            )
        except aiohttp.WSServerHandshakeError as error:
            async with session.get(
                f"{self.url}/agents",
                params=query,
                headers={
                    "Upgrade": "websocket",
                    "Connection": "Upgrade",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": base64.b64encode(b"0" * 16).decode(),
                },
            ) as answer:
                raise Dismissed(error.status, (await answer.json())["message"]) from error

    @property
    def socket(self) -> aiohttp.ClientWebSocketResponse:
        """The present socket."""
        assert self._socket is not None
        return self._socket

    async def drop(self) -> None:
        """Lose the connection without a word."""
        response = self.socket._response
        assert response.connection is not None
        transport = response.connection.transport
        assert transport is not None
        transport.abort()

    async def say_started(self, acks: Sequence[Mapping[str, Any]] = ()) -> None:
        """Send AgentStarted."""
        await self.send(
            AgentStarted={
                "Version": "0.38.1",
                "Devices": self.devices,
                "ContainersReattached": list(acks),
                "ResourcePoolName": self.pool,
            }
        )

    async def send(self, **member: Any) -> None:
        """Send one union object."""
        names = ("AgentStarted", "ContainerStateChanged", "ContainerLog", "ContainerStatsRecord")
        await self.socket.send_str(json.dumps(dict.fromkeys(names) | member))

    async def change(
        self,
        start: Mapping[str, Any],
        state: str,
        *,
        failure: Mapping[str, Any] | None = None,
        devices: bool = True,
        ports: Mapping[str, int] | None = None,
        address: str = "10.0.0.1",
    ) -> None:
        """Report a state of a container; *ports* are published ones, by container port."""
        container = dict(start["Container"]) | {"state": state, "description": ""}
        if not devices:
            container["devices"] = None
        info = {
            "Id": "f" * 64,
            "HostConfig": {"NetworkMode": "bridge"},
            "Config": {"ExposedPorts": {}},
            "NetworkSettings": {
                "Ports": {
                    f"{inside}/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(outside)}]
                    for inside, outside in (ports or {"1734": 32768}).items()
                },
                "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
            },
        }
        started = {"ProxyAddress": address, "ContainerInfo": info}
        await self.send(
            ContainerStateChanged={
                "Container": container,
                "ContainerStarted": started if state == "RUNNING" else None,
                "ContainerStopped": {"Failure": failure} if state == "TERMINATED" else None,
            }
        )

    async def run(self, start: Mapping[str, Any], **options: Any) -> None:
        """Report all states from PULLING to RUNNING."""
        for state in ("PULLING", "STARTING", "RUNNING"):
            await self.change(start, state, **options)

    async def end(self, start: Mapping[str, Any], code: int = 0, **options: Any) -> None:
        """Report the end of a container."""
        failure = {
            "FailureType": "container failed with non-zero exit code",
            "ErrMsg": f"container failed with non-zero exit code: {code}",
            "ExitCode": code,
        }
        await self.change(start, "TERMINATED", failure=failure if code else None, **options)

    async def print(
        self, start: Mapping[str, Any], text: str, *, offset: int | None = None
    ) -> None:
        """Send a line of a container's output."""
        run = {"Value": text, "StdType": 1, **({} if offset is None else {"Offset": offset})}
        await self.send(
            ContainerLog={
                "ContainerID": start["Container"]["id"],
                "Timestamp": datetime.now(UTC).isoformat().replace("+00:00", "123Z"),
                "Level": None,
                "PullMessage": None,
                "RunMessage": run,
                "AuxMessage": None,
                "Source": "agent",
                "AgentID": self.id,
            }
        )

    async def next_start(self) -> dict[str, Any]:
        """Wait for the next order to start a container."""
        async with asyncio.timeout(60):
            return await self.starts.get()

    async def next_kill(self) -> str:
        """Wait for the next order to kill; return the container's id."""
        async with asyncio.timeout(60):
            return await self.kills.get()

    async def _receive(self, member: str) -> dict[str, Any]:
        message = await self.socket.receive_json(timeout=60)
        found: dict[str, Any] = message[member]
        assert found is not None, message
        return found

    async def _read(self) -> None:
        async for frame in self.socket:
            message = json.loads(frame.data)
            if message["StartContainer"]:
                self.starts.put_nowait(message["StartContainer"])
            elif message["SignalContainer"]:
                assert message["SignalContainer"]["Signal"] == 9
                self.kills.put_nowait(message["SignalContainer"]["ContainerID"])
            elif message["AgentShutdown"]:
                self.shutdowns.put_nowait(message["AgentShutdown"]["ErrMsg"])
            else:
                raise AssertionError(f"the Go agent would have ended: {message}")


def ack(start: Mapping[str, Any], state: str, failure: Mapping[str, Any] | None = None) -> Any:
    """Build the answer about a container that the master expects."""
    container = dict(start["Container"]) | {"state": state}
    if failure is not None and state == "":
        container = {"id": container["id"], "state": "", "devices": None, "description": ""}
    return {"Container": container, "Failure": failure}
