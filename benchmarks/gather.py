"""How long an all-gather of N ranks takes through the master's REST face, against a bare barrier.

Both servers run in a process of their own, and the same client plays all ranks of both: each rank
posts its data and gets the data of all. "bare" is aiohttp alone with a barrier in memory: no token,
no message, no allocation. Rounds alternate between the two, so that the machine treats them alike.

    python benchmarks/gather.py [--ranks 64] [--rounds 30]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from shipway_master.app import running
from shipway_master.config import MasterConfig

_PASSWORD = "benchmark-1"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        servers = []
        try:
            ports = []
            for serve in (_serve_master, _serve_bare):
                ours, theirs = context.Pipe()
                server = context.Process(target=serve, args=(theirs, Path(folder)), daemon=True)
                server.start()
                servers.append(server)
                ports.append(ours.recv())
            asyncio.run(_measure(ports[0], ports[1], options.ranks, options.rounds))
        finally:
            for server in servers:
                server.terminate()
                server.join()


def _serve_master(pipe: multiprocessing.connection.Connection, folder: Path) -> None:
    async def serve() -> None:
        settings = {
            "data": folder,
            "port": 0,
            "security": {"initial_user_password": _PASSWORD},
        }
        async with running(MasterConfig.model_validate(settings)) as master:
            pipe.send(master.port)
            await asyncio.Event().wait()

    asyncio.run(serve())


def _serve_bare(pipe: multiprocessing.connection.Connection, _: Path) -> None:
    waiting: list[tuple[dict[str, Any], asyncio.Future[str]]] = []

    async def gather(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting.append((body["data"], answer))
        if len(waiting) == body["numPeers"]:
            group, waiting[:] = waiting[:], []
            data = sorted((item for item, _ in group), key=lambda item: int(item["rank"]))
            text = json.dumps({"data": data})
            for _, future in group:
                future.set_result(text)
        return web.Response(text=await answer, content_type="application/json")

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/gather", gather)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(serve())


@dataclass
class _Target:
    name: str
    url: str
    headers: dict[str, str]
    times_ms: list[float]


async def _measure(master_port: int, bare_port: int, ranks: int, rounds: int) -> None:
    base = f"http://127.0.0.1:{master_port}"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        token = await _log_in(session, base)
        async with session.ws_connect(
            f"{base}/agents", params={"id": "bench", "version": "1", "reconnect": "false"}
        ) as socket:
            allocation_id, task_token = await _start_task(session, base, token, socket)
            path = f"{base}/api/v1/allocations/{allocation_id}/all_gather"
            headers = {"Grpc-Metadata-x-allocation-token": f"Bearer {task_token}"}
            targets = [
                _Target("master", path, headers, []),
                _Target("bare", f"http://127.0.0.1:{bare_port}/gather", {}, []),
            ]
            for number in range(rounds + 3):
                for target in targets:
                    taken_ms = await _gather(session, target, ranks)
                    if number >= 3:  # the first rounds open the connections
                        target.times_ms.append(taken_ms)
    for target in targets:
        median = statistics.median(target.times_ms)
        print(
            f"{target.name:7} {ranks} ranks: {median:7.1f} ms a gather, worst {max(target.times_ms):.1f}"
        )
    ratio = statistics.median(targets[0].times_ms) / statistics.median(targets[1].times_ms)
    print(f"ratio   {ratio:.2f}")


async def _gather(session: aiohttp.ClientSession, target: _Target, ranks: int) -> float:
    async def take_part(rank: int) -> int:
        body = {
            "requestUuid": str(uuid.uuid4()),
            "numPeers": ranks,
            "data": {"rank": rank, "rendezvous_ip": f"10.0.{rank // 256}.{rank % 256}", "slots": 8},
        }
        async with session.post(target.url, json=body, headers=target.headers) as answer:
            answer.raise_for_status()
            return len((await answer.json())["data"])

    began = time.perf_counter()
    counts = await asyncio.gather(*(take_part(rank) for rank in range(ranks)))
    taken_ms = (time.perf_counter() - began) * 1000
    assert counts == [ranks] * ranks
    return taken_ms


async def _log_in(session: aiohttp.ClientSession, base: str) -> str:
    body = {"username": "admin", "password": _PASSWORD, "isHashed": False}
    async with session.post(f"{base}/api/v1/auth/login", json=body) as answer:
        token: str = (await answer.json())["token"]
        return token


async def _start_task(
    session: aiohttp.ClientSession,
    base: str,
    token: str,
    socket: aiohttp.ClientWebSocketResponse,
) -> tuple[str, str]:
    """Be an agent with one slot, and have a task started on it."""
    await socket.receive_json()
    device = {"id": 0, "brand": "none", "uuid": "bench-0", "type": "cpu"}
    started = {"Devices": [device], "ContainersReattached": [], "ResourcePoolName": "default"}
    await socket.send_json({"AgentStarted": started})
    body = {"config": json.dumps({"entrypoint": ["x"]})}
    headers = {"Authorization": f"Bearer {token}"}
    async with session.post(f"{base}/api/v1/generic-tasks", json=body, headers=headers) as answer:
        answer.raise_for_status()
    start = (await socket.receive_json())["StartContainer"]
    texts = start["Spec"]["RunSpec"]["ContainerConfig"]["Env"]
    variables = dict(text.split("=", 1) for text in texts)
    return variables["DET_ALLOCATION_ID"], variables["DET_SESSION_TOKEN"]


if __name__ == "__main__":
    main()
