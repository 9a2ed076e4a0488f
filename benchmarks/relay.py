"""Log lines per second through the relay, against posting them straight to the same master.

    python -m benchmarks.relay [--lines N] [--ranks N]

The master is a stand-in in a process of its own; on either way it makes messages of the lines and
counts them. Through the relay a line counts when the master has it, so each was written to disk,
synced and sent on. Prints both rates and their ratio, for large and for small batches.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
from aiohttp import web
from tests.launcher.relay.conftest import make_environment
from tests.launcher.relay.master import ALLOCATION, AUTH, TASK, StandInMaster

from shipway_launcher.relay import MasterAddress, Relay, RelaySettings
from shipway_launcher.relay.messages import parse_body, task_logs_request

TEXT = "step 12345: loss 0.123456 accuracy 0.987654 lr 0.0001 throughput 1234.5 samples/s\n"


async def serve_master() -> None:
    """Count the lines that come by gRPC and by REST; tell the count on GET."""
    by_rest = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal by_rest
        if request.method == "GET":
            return web.json_response({"lines": by_rest + sum(map(len, master.batches))})
        body = await request.read()
        by_rest += len(task_logs_request(parse_body(body)).logs)
        return web.json_response({})

    async with StandInMaster() as master:
        master.answer = answer
        print(json.dumps({"url": master.url}), flush=True)
        await asyncio.Event().wait()


async def serve_relay(master: str, folder: str) -> None:
    """Run the relay alone, as `shipway-launcher serve` runs it."""
    settings = RelaySettings.model_validate({"port": 0, "master": master})
    address = MasterAddress(settings.master, Path(folder) / "master.json")
    async with Relay(settings, Path(folder) / "spool", address) as relay:
        await relay.learn(make_environment(master))
        print(json.dumps({"url": relay.url}), flush=True)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def process(*words: str) -> AsyncIterator[str]:
    """Run this file with other arguments; gives the URL it prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.relay", *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        yield json.loads(await child.stdout.readline())["url"]
    finally:
        child.kill()
        await child.wait()


def bodies(rank: int, lines: int, batch: int) -> list[bytes]:
    """Make the requests of one rank, as `shipway-agent job` makes them."""
    record = {
        "taskId": TASK,
        "allocationId": ALLOCATION,
        "agentId": f"n{rank}",
        "containerId": f"[cont={rank}]",
        "rankId": rank,
        "timestamp": "2026-01-02T03:04:05.678901+00:00",
        "stdtype": "stdout",
        "source": "task",
        "log": TEXT,
    }
    body = json.dumps({"logs": [record] * batch}).encode()
    return [body] * (lines // batch)


async def measure(url: str, master: str, work: Sequence[Sequence[bytes]], lines: int) -> float:
    """Post *work*, one list after the other for each rank; returns lines per second."""
    async with aiohttp.ClientSession(headers=AUTH) as client:
        before = await count(client, master)

        async def post_all(rank_bodies: Sequence[bytes]) -> None:
            for body in rank_bodies:
                async with client.post(f"{url}/api/v1/task/logs", data=body) as answer:
                    assert answer.status == 200, await answer.text()

        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for rank_bodies in work:
                group.create_task(post_all(rank_bodies))
        while await count(client, master) - before < lines:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return lines / (time.monotonic() - begin)


async def count(client: aiohttp.ClientSession, master: str) -> int:
    async with client.get(f"{master}/count") as answer:
        return int((await answer.json())["lines"])


async def compare(lines: int, ranks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with process("master") as master, process("relay", master, folder) as relay:
            for batch, part in ((1000, 1.0), (10, 0.1)):
                each = int(lines * part) // ranks // batch * batch
                work = [bodies(rank, each, batch) for rank in range(ranks)]
                await measure(relay, master, [one[:2] for one in work], 2 * batch * ranks)
                direct = await measure(master, master, work, each * ranks)
                relayed = await measure(relay, master, work, each * ranks)
                print(
                    f"batches of {batch:4}, {ranks} ranks: direct {direct:9,.0f} lines/s,"
                    f" through the relay {relayed:9,.0f} lines/s, ratio {relayed / direct:.2f}"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", nargs="*", help="used by the benchmark itself")
    parser.add_argument("--lines", type=int, default=400_000)
    parser.add_argument("--ranks", type=int, default=4)
    options = parser.parse_args()
    match options.role:
        case ["master"]:
            asyncio.run(serve_master())
        case ["relay", master, folder]:
            asyncio.run(serve_relay(master, folder))
        case _:
            asyncio.run(compare(options.lines, options.ranks))


if __name__ == "__main__":
    main()
