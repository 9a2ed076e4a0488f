"""How long a thousand agents take to be back at a master that was restarted, and what they cost it.

Simulated agents with eight slots each speak the websocket of a real master. When all are known the
master is killed and started again, and all of them dial at once, each until it is taken. Meanwhile
somebody lists the agents again and again, as a page does. "bare" is a websocket server of aiohttp
in a process of its own that takes the same connections and the same first message of each, and does
nothing with them. Goal: all back within 30 s.

    python -m benchmarks.agents [--agents 1000] [--slots 8]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from tests.lab.processes import free_ports
from tests.lab.shipway import Api, Master

_GOAL_S = 30.0
_LIMIT_S = 120.0
_bare_server = """
import sys
from aiohttp import web

async def agents(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    await socket.send_str("{}")
    async for message in socket:
        pass
    return socket

app = web.Application()
app.router.add_get("/agents", agents)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=8)
    options = parser.parse_args()
    _allow_files(options.agents)
    with tempfile.TemporaryDirectory(prefix="shipway-agents-") as folder:
        asyncio.run(_measure(options.agents, options.slots, Path(folder)))


def _allow_files(agents: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, max(soft, 4 * agents + 256))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _measure(agents: int, slots: int, folder: Path) -> None:
    bare_s = await _measure_bare(agents, slots)
    master = Master(folder, {"resource_manager": {"type": "agent", "agent_reconnect_wait": "300s"}})
    await asyncio.to_thread(master.start)
    try:
        api = await asyncio.to_thread(master.login)
        before_kib = _memory_kib(master)
        async with _Fleet(master.url, agents, slots) as fleet:
            first_s = await _time(lambda: fleet.all_known(api))
            each_kib = (_memory_kib(master) - before_kib) / agents
            await asyncio.to_thread(master.kill)
            await asyncio.to_thread(master.start)
            async with _Lister(api) as lister:
                back_s = await _time(lambda: fleet.all_known(api))
        print(f"{agents} agents with {slots} slots each")
        print(f"bare websocket server     {bare_s:7.2f} s")
        print(f"first connection          {first_s:7.2f} s  {first_s / bare_s:6.1f} x bare")
        print(f"back after a restart      {back_s:7.2f} s  {back_s / bare_s:6.1f} x bare")
        print(f"goal for that             {_GOAL_S:7.2f} s  {back_s / _GOAL_S:6.2f} of it used")
        print(f"memory of an agent        {each_kib:7.1f} KiB")
        print(f"listing agents meanwhile  {lister.p50_ms:7.1f} ms p50, {lister.p99_ms:.1f} ms p99")
    finally:
        await asyncio.to_thread(master.stop)


async def _time(work: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    async with asyncio.timeout(_LIMIT_S):
        await work()
    return time.perf_counter() - began


async def _measure_bare(agents: int, slots: int) -> float:
    [port] = free_ports(1)
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", _bare_server, str(port))
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await _answers(session, f"http://127.0.0.1:{port}/agents")
            return await _time(
                lambda: _connect_all(session, f"http://127.0.0.1:{port}", agents, slots)
            )
    finally:
        server.kill()
        await server.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(url):
                return
        await asyncio.sleep(0.05)


async def _connect_all(session: aiohttp.ClientSession, url: str, agents: int, slots: int) -> None:
    sockets = await asyncio.gather(
        *(_connect(session, url, number, slots) for number in range(agents))
    )
    await asyncio.gather(*(socket.close() for socket in sockets))


async def _connect(
    session: aiohttp.ClientSession, url: str, number: int, slots: int, *, is_back: bool = False
) -> aiohttp.ClientWebSocketResponse:
    query = {
        "id": f"agent-{number:04}",
        "version": "0.38.1",
        "resource_pool": "default",
        "reconnect": "true" if is_back else "false",
        "hostname": f"node-{number:04}",
    }
    socket = await session.ws_connect(f"{url}/agents", params=query)
    await socket.receive()
    devices = [
        {"id": slot, "brand": "Simulated", "uuid": f"GPU-{number}-{slot}", "type": "cuda"}
        for slot in range(slots)
    ]
    started = {"Version": "0.38.1", "Devices": devices, "ContainersReattached": []}
    await socket.send_str(json.dumps({"AgentStarted": {**started, "ResourcePoolName": "default"}}))
    return socket


class _Fleet:
    """The agents, each of which dials again as soon as its connection is lost."""

    def __init__(self, url: str, agents: int, slots: int) -> None:
        self._url, self._agents, self._slots = url, agents, slots
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Fleet:
        self._tasks = [asyncio.create_task(self._live(number)) for number in range(self._agents)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._session.close()

    async def _live(self, number: int) -> None:
        is_back = False
        while True:
            try:
                socket = await _connect(
                    self._session, self._url, number, self._slots, is_back=is_back
                )
                is_back = True
                async for _ in socket:
                    pass
            except aiohttp.WSServerHandshakeError:
                is_back = False  # it is told to come as a new one
            except (aiohttp.ClientError, OSError):
                pass
            await asyncio.sleep(0.5)

    async def all_known(self, api: Api) -> None:
        """Return when the master shows all of them as fit for work."""
        while True:
            with contextlib.suppress(OSError):
                listed = await asyncio.to_thread(_list_agents, api)
                ready = [agent for agent in listed if len(agent["slots"]) == self._slots]
                if sum(not agent["draining"] for agent in ready) == self._agents:
                    return
            await asyncio.sleep(0.1)


def _list_agents(api: Api) -> list[dict[str, Any]]:
    agents: list[dict[str, Any]] = api.call("GET", "/api/v1/agents")["agents"]
    return agents


class _Lister:
    """Lists the agents with their slots, again and again, and notes how long that takes."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._times_ms: list[float] = []

    async def __aenter__(self) -> _Lister:
        self._task = asyncio.create_task(self._list())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _list(self) -> None:
        headers = {"Authorization": f"Bearer {self._api.token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                began = time.perf_counter()
                async with session.get(f"{self._api.url}/api/v1/agents") as answer:
                    await answer.read()
                self._times_ms.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.05)

    @property
    def p50_ms(self) -> float:
        """Half of the answers came sooner."""
        return statistics.median(self._times_ms)

    @property
    def p99_ms(self) -> float:
        """All answers but one in a hundred came sooner."""
        return sorted(self._times_ms)[min(len(self._times_ms) - 1, len(self._times_ms) * 99 // 100)]


def _memory_kib(master: Master) -> float:
    pages = int(Path(f"/proc/{master.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


if __name__ == "__main__":
    main()
