"""A stand-in for the master, as strict as the Go master and with its memory, for one agent.

What would crash or upset the Go master is kept in `faults`; a test that ends with any has failed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import WSMsgType, web

from tests.lab.processes import free_ports

STATES = {"ASSIGNED", "PULLING", "STARTING", "RUNNING", "TERMINATED"}
MUST_RESTART = "agent is past reconnect period, it must restart"
_members = {"AgentStarted", "ContainerStateChanged", "ContainerLog", "ContainerStatsRecord"}


@dataclass
class Seen:
    """What the master knows of one container."""

    devices: list[dict[str, Any]]
    states: list[str] = field(default_factory=list)
    logs: list[dict[str, Any]] = field(default_factory=list)
    running: dict[str, Any] | None = None
    failure: dict[str, Any] | None = None

    @property
    def has_ended(self) -> bool:
        return self.states[-1:] == ["TERMINATED"]

    def output(self, stream: str = "stdout") -> list[str]:
        number = {"stdout": 1, "stderr": 2}[stream]
        return [
            line["RunMessage"]["Value"]
            for line in self.logs
            if line["RunMessage"] and line["RunMessage"]["StdType"] == number
        ]

    def output_by_place(self) -> list[str]:
        """What came on stdout, without lines that came twice from the same place."""
        messages = [line["RunMessage"] for line in self.logs if line["RunMessage"]]
        return list(
            {one["Offset"]: one["Value"] for one in messages if one["StdType"] == 1}.values()
        )

    def notes(self) -> list[str]:
        return [line["AuxMessage"] for line in self.logs if line["AuxMessage"]]


class StandInMaster:
    """Serves `/agents` on a free port of loopback."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.close_code: int | None = None
        self.cluster_id = "11111111-2222-3333-4444-555555555555"
        self.port = 0
        self.dials: list[dict[str, str]] = []
        self.hellos: list[dict[str, Any]] = []
        """Each AgentStarted."""
        self.containers: dict[str, Seen] = {}
        self.stats: list[dict[str, Any]] = []
        self.metrics: list[tuple[str, Any]] = []
        """What was posted of trials: the token, and one batch."""
        self.faults: list[str] = []
        self.refusals: list[web.Response] = []
        """Answers to give to the next dials instead of a websocket."""
        self.forgets = False
        """Whether to expect no container, as a master with a new record does."""
        self.expects_other_devices = False
        self.answers_pings = True
        self.reads = asyncio.Event()
        """Cleared: what the agent sends is left in its socket."""
        self.reads.set()
        self._socket: web.WebSocketResponse | None = None
        self._request: web.Request | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> StandInMaster:
        app = web.Application()
        app.router.add_get("/agents", self.serve)
        app.router.add_post("/api/v1/trials/profiler/metrics", self._take_metrics)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        if not self.port:  # one that nobody else gets once it is closed
            (self.port,) = free_ports(1)
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drop()
        await self._runner.cleanup()

    # what tests do

    async def start(self, *words: str, container_id: str = "", **changes: Any) -> str:
        """Order a container that runs *words*; returns its id."""
        container_id = container_id or str(uuid.uuid4())
        slots = changes.pop("slots", 1)
        devices = changes.pop("devices", None)
        if devices is None:
            devices = self.hellos[-1]["Devices"][:slots] or None
        self.containers[container_id] = Seen(devices=devices or [])
        await self.send(StartContainer=start_order(container_id, words, devices=devices, **changes))
        return container_id

    async def signal(self, container_id: str, number: int = 9) -> None:
        await self.send(SignalContainer={"ContainerID": container_id, "Signal": number})

    async def send(self, **member: Any) -> None:
        message = {
            "MasterSetAgentOptions": None,
            "StartContainer": None,
            "SignalContainer": None,
            "AgentShutdown": None,
            **member,
        }
        await self.send_text(json.dumps(message))

    async def send_text(self, text: str) -> None:
        assert self._socket is not None
        await self._socket.send_str(text)

    async def drop(self) -> None:
        """Cut the connection without a close."""
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        assert self._socket is not None
        await self._socket.close()

    async def until(self, holds: Callable[[], bool], *, limit_s: float = 60) -> None:
        """Wait until what the master knows makes *holds* true."""
        try:
            async with asyncio.timeout(limit_s), self._changed:
                await self._changed.wait_for(holds)
        except TimeoutError:
            raise AssertionError(f"never came; {self.faults=} {self.containers=}") from None

    async def connected(self, times: int = 1) -> None:
        await self.until(lambda: len(self.hellos) >= times)

    async def reached(self, container_id: str, state: str) -> Seen:
        seen = self.containers[container_id]
        await self.until(lambda: state in seen.states)
        return seen

    async def ended(self, container_id: str) -> Seen:
        return await self.reached(container_id, "TERMINATED")

    # the protocol

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.dials.append(dict(request.query))
        await self._notify()
        if self.refusals:
            return self.refusals.pop(0)
        if "Origin" in request.headers or "Sec-WebSocket-Extensions" in request.headers:
            self.faults.append("a header that the agent must not send")
        if self._socket is not None and not self._socket.closed:
            return web.json_response({"message": "agent: websocket already connected"}, status=500)
        if request.query.get("reconnect") == "true" and not self.hellos:
            return web.json_response({"message": MUST_RESTART}, status=500)
        socket = web.WebSocketResponse(autoping=False, max_msg_size=128 << 20, compress=False)
        await socket.prepare(request)
        self._socket, self._request = socket, request
        await self.send(MasterSetAgentOptions=self._options())
        try:
            await self._read(socket)
        finally:
            self._socket = self._request = None
            await self._notify()
        return socket

    def _options(self) -> dict[str, Any]:
        expected = None
        if self.hellos and not self.forgets:
            expected = [
                {
                    "Container": {
                        "id": container_id,
                        "state": seen.states[-1] if seen.states else "",
                        "devices": seen.devices if seen.states else None,
                        "description": "",
                    }
                }
                for container_id, seen in self.containers.items()
                if not seen.has_ended
            ]
        return {
            "MasterInfo": {
                "version": "0.38.1",
                "master_id": str(uuid.uuid4()),
                "cluster_id": self.cluster_id,
                "cluster_name": "",
                "telemetry": {"enabled": False, "otel_enabled": False, "otel_endpoint": ""},
                "sso_providers": None,
            },
            "LoggingOptions": {"type": "default"},
            "ContainersToReattach": expected,
        }

    async def _read(self, socket: web.WebSocketResponse) -> None:
        is_first = True
        while True:
            await self.reads.wait()
            frame = await socket.receive()
            if frame.type is WSMsgType.PING and self.answers_pings:
                await socket.pong(frame.data)
            if frame.type in (WSMsgType.PING, WSMsgType.PONG):
                continue
            if frame.type is not WSMsgType.TEXT:
                self.close_code = frame.data if frame.type is WSMsgType.CLOSE else None
                return
            self._take(json.loads(frame.data), is_first=is_first)
            is_first = False
            await self._notify()

    def _take(self, message: dict[str, Any], *, is_first: bool) -> None:
        if set(message) != _members:
            self.faults.append(f"members {sorted(message)}")
        (kind,) = [name for name in _members if message.get(name) is not None]
        body = message[kind]
        if is_first != (kind == "AgentStarted"):
            self.faults.append(f"{kind} at the wrong place")
        match kind:
            case "AgentStarted":
                self._take_hello(body)
            case "ContainerStateChanged":
                self._take_state(body)
            case "ContainerLog":
                self._take_log(body)
            case _:
                self.stats.append(body)

    def _take_hello(self, hello: dict[str, Any]) -> None:
        is_same = not self.hellos or hello["Devices"] == self.hellos[-1]["Devices"]
        if not is_same and not self.expects_other_devices:
            self.faults.append("other devices than before")
        self.hellos.append(hello)
        for answer in hello["ContainersReattached"]:
            seen = self.containers[answer["Container"]["id"]]
            listed = seen.states[-1] if seen.states else ""
            if answer["Failure"] or answer["Container"]["state"] != listed:
                # So the Go master: the end, and without a failure a success.
                seen.states.append("TERMINATED")
                seen.failure = answer["Failure"]

    def _take_state(self, change: dict[str, Any]) -> None:
        container = change["Container"]
        state = container["state"]
        seen = self.containers.get(container["id"])
        if state not in STATES:
            self.faults.append(f"state {state!r}")
        if state == "RUNNING" and "HostConfig" not in change["ContainerStarted"]["ContainerInfo"]:
            self.faults.append("RUNNING without HostConfig")
        if state == "TERMINATED" and change["ContainerStopped"] is None:
            self.faults.append("TERMINATED without ContainerStopped")
        if seen is None:
            self.containers[container["id"]] = Seen(devices=[], states=[state])
            return
        if (container["devices"] or []) != seen.devices:
            self.faults.append(f"{state} with devices {container['devices']}")
        if seen.has_ended:
            return
        seen.states.append(state)
        if state == "RUNNING":
            seen.running = change["ContainerStarted"]
        elif state == "TERMINATED":
            seen.failure = change["ContainerStopped"]["Failure"]

    def _take_log(self, line: dict[str, Any]) -> None:
        texts = [line[name] for name in ("AuxMessage", "RunMessage", "PullMessage")]
        if sum(text is not None for text in texts) != 1:
            self.faults.append(f"log with texts {texts}")
        if datetime.fromisoformat(line["Timestamp"]).tzinfo is None:
            self.faults.append("log without a time zone")
        seen = self.containers.get(line["ContainerID"])
        if seen is None or seen.has_ended:
            self.faults.append(f"log of a container that is not here: {texts}")
        else:
            seen.logs.append(line)

    async def _take_metrics(self, request: web.Request) -> web.Response:
        token = request.headers.get("Grpc-Metadata-x-allocation-token", "")
        self.metrics += [(token, batch) for batch in (await request.json())["batches"]]
        await self._notify()
        return web.json_response({})

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def start_order(
    container_id: str,
    words: Sequence[str],
    *,
    devices: list[dict[str, Any]] | None,
    environment: Sequence[str] = (),
    files: dict[str, bytes] | None = None,
    mounts: Mapping[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Write a start order as the Go master does, for a container without an image.

    Args:
        mounts: Folders of the host to show, by their place in the container.
    """
    item = {"mode": 0o644, "mtime": 1501632000, "uid": 0, "gid": 0, "isRootItem": False}
    folders = ["/run/determined", "/run/determined/workdir"]
    items = [{**item, "path": path, "type": 53, "content": "", "mode": 0o755} for path in folders]
    items += [
        {
            **item,
            "path": path,
            "type": 48,
            "content": base64.b64encode(content).decode(),
            "mode": 0o755 if path.endswith(".sh") else 0o644,
        }
        for path, content in (files or {}).items()
    ]
    config = {
        "Hostname": "",
        "User": "",
        "ExposedPorts": {"1734/tcp": {}},
        "Env": [
            "DET_ALLOCATION_ID=1.1",
            f"DET_CONTAINER_ID={container_id}",
            "PATH=/usr/bin:/bin",
            *environment,
        ],
        "Cmd": list(words),
        "Image": "",
        "WorkingDir": "/run/determined/workdir",
        "Entrypoint": None,
        "Labels": None,
    }
    return {
        "Container": {
            "id": container_id,
            "state": "ASSIGNED",
            "devices": devices,
            "description": "cmd-test",
        },
        "Spec": {
            "TaskType": "COMMAND",
            "PullSpec": {"ForcePull": False, "Registry": None},
            "RunSpec": {
                "ContainerConfig": {**config, **changes},
                "HostConfig": {
                    "NetworkMode": "bridge",
                    "Mounts": [
                        {
                            "Type": "bind",
                            "Source": source,
                            "Target": target,
                            "BindOptions": {"Propagation": "rprivate"},
                        }
                        for target, source in (mounts or {}).items()
                    ]
                    or None,
                    "PublishAllPorts": True,
                    "ShmSize": 4294967296,
                    "CapAdd": None,
                    "Devices": [],
                },
                "NetworkingConfig": {"EndpointsConfig": None},
                "Archives": [
                    {
                        "Path": "/",
                        "Archive": items,
                        "CopyOptions": {"AllowOverwriteDirWithFile": False, "CopyUIDGID": False},
                    }
                ],
                "DeviceType": "cpu",
                "Registry": None,
            },
        },
    }
