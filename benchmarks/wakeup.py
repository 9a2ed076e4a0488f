"""How soon those who wait for the signal to leave hear of it.

A task on an agent is paused again and again while many of its processes poll for the signal as the harness
does: REST, a connection each, a long poll. "master" is the time from the request to pause until each
poll has its answer. "server" is the same with aiohttp alone, where a request sets an event that as many
others wait for: the limit.

Limit: a p99 of 50 ms.

    python -m benchmarks.wakeup [--rounds 20] [--pollers 64]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from tests.lab.folders import new_folder, remove_folder
from tests.lab.shipway import Agent, Api, Master

LIMIT_MS = 50.0
_SETTLE_S = 0.3
"""Time for the polls to arrive before the signal is given."""

Signal = Callable[[], Awaitable[None]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pollers", type=int, default=64)
    options = parser.parse_args()
    folder = new_folder("wakeup")
    try:
        master = Master(folder)
        master.start()
        agent = Agent(folder, master, agent_id="a", slots=1)
        try:
            agent.start()
            asyncio.run(measure(master, options.rounds, options.pollers))
        finally:
            agent.stop()
            master.stop()
    finally:
        remove_folder(folder)


async def measure(master: Master, rounds: int, pollers: int) -> None:
    """Time all wake-ups of both in turns."""
    api = await asyncio.to_thread(master.login)
    times: dict[str, list[float]] = {"master": [], "server": []}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for _ in range(rounds):
            async with paused_task(master, api, session) as (url, headers, give):
                times["master"] += await wake(session, url, headers, pollers, give)
            async with bare_server(session) as (url, give):
                times["server"] += await wake(session, url, {}, pollers, give)
    for name, values in times.items():
        p50, p99 = statistics.median(values), statistics.quantiles(values, n=100)[98]
        print(f"{name:8} p50 {p50 * 1000:6.1f} ms   p99 {p99 * 1000:6.1f} ms")
    ours, theirs = (statistics.quantiles(one, n=100)[98] for one in times.values())
    print(
        f"p99: {ours / theirs:.2f} of the server alone, {ours * 1000 / LIMIT_MS:.2f} of the limit"
    )


async def wake(
    session: aiohttp.ClientSession,
    url: str,
    headers: dict[str, str],
    pollers: int,
    give_signal: Signal,
) -> list[float]:
    """Let many wait, give the signal, and return how long each took to hear of it, in seconds."""

    async def poll() -> float:
        async with session.get(url, headers=headers) as response:
            assert (await response.json())["preempt"]
            return time.perf_counter()

    polls = [asyncio.create_task(poll()) for _ in range(pollers)]
    await asyncio.sleep(_SETTLE_S)
    began = time.perf_counter()
    await give_signal()
    return [heard - began for heard in await asyncio.gather(*polls)]


@asynccontextmanager
async def paused_task(
    master: Master, api: Api, session: aiohttp.ClientSession
) -> AsyncGenerator[tuple[str, dict[str, str], Signal]]:
    """Run a task that can be paused; yields where one polls, with what, and what pauses it."""
    config = json.dumps({"entrypoint": "exec sleep 1000", "resources": {"slots": 1}})
    created = await asyncio.to_thread(api.call, "POST", "/api/v1/generic-tasks", {"config": config})
    task_id = created["taskId"]
    headers = {"Authorization": f"Bearer {api.token}"}
    while True:
        task = (await asyncio.to_thread(api.call, "GET", f"/api/v1/tasks/{task_id}"))["task"]
        if task["allocations"] and task["allocations"][0]["state"] == "STATE_RUNNING":
            break
        await asyncio.sleep(0.05)

    async def pause() -> None:
        address = f"{master.url}/api/v1/tasks/{task_id}/pause"
        async with session.post(address, headers=headers, json={"taskId": task_id}) as response:
            response.raise_for_status()

    allocation_id = task["allocations"][0]["allocationId"]
    path = f"/api/v1/allocations/{allocation_id}/signals/preemption?timeout_seconds=60"
    try:
        yield f"{master.url}{path}", headers, pause
    finally:
        await asyncio.to_thread(
            api.call, "POST", f"/api/v1/tasks/{task_id}/kill", {"taskId": task_id}
        )


@asynccontextmanager
async def bare_server(
    session: aiohttp.ClientSession,
) -> AsyncGenerator[tuple[str, Signal]]:
    """Run a server whose clients wait for an event."""
    event = asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        await event.wait()
        return web.json_response({"preempt": True})

    async def give(request: web.Request) -> web.Response:
        event.set()
        return web.json_response({})

    app = web.Application()
    app.add_routes([web.get("/wait", wait), web.post("/give", give)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def give_signal() -> None:
        async with session.post(f"{url}/give") as response:
            response.raise_for_status()

    try:
        yield f"{url}/wait", give_signal
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(runner.cleanup(), 5)


if __name__ == "__main__":
    main()
