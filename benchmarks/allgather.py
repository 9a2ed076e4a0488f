"""All-gather of N ranks through the relay, against a bare gRPC server on the same machine.

    python -m benchmarks.allgather [--ranks N] [--bytes N] [--rounds N] [--rest]

Each rank has a connection of its own, sends its bytes and gets those of all. Servers and ranks run
in processes of their own; all ranks of one server are played by one client, the same for both. The
bare server has nothing but a barrier in memory: no token, no rank order, no answer kept on disk, no
front door that tells gRPC from REST. Like the relay it sends large answers to 32 ranks at a time, or
it would need gigabytes. Rounds alternate between the two. `--rest` plays the ranks of the relay as
the stock harness does, by REST.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
from google.protobuf.struct_pb2 import Struct

from shipway_launcher.relay import MasterAddress, Relay, RelaySettings
from shipway_proto.determined.api.v1.trial_pb2 import (
    AllocationAllGatherRequest,
    AllocationAllGatherResponse,
)

TASK = "3f0c8d52-5d7a-4c1f-9e5b-444444444444"
ALLOCATION = f"{TASK}.1"
TOKEN = "benchmark"
RPC = "/determined.api.v1.Determined/AllocationAllGather"
METADATA = (("x-allocation-token", f"Bearer {TOKEN}"),)
AT_ONCE = 32
LARGE = ("grpc.max_receive_message_length", 96 << 20)

Take = Callable[[int, str], Awaitable[int]]
"""Takes part as a rank, under a key of the round; returns how many bytes it got."""


async def serve_relay(folder: str) -> None:
    """Run the relay alone; its master is away."""
    environment = {
        "DET_MASTER": "http://127.0.0.1:9",
        "DET_ALLOCATION_ID": ALLOCATION,
        "DET_TASK_ID": TASK,
        "DET_SESSION_TOKEN": TOKEN,
    }
    settings = RelaySettings.model_validate({"port": 0, "master": environment["DET_MASTER"]})
    address = MasterAddress(settings.master, Path(folder) / "master.json")
    async with Relay(settings, Path(folder) / "spool", address) as relay:
        await relay.learn(environment)
        print(json.dumps({"url": relay.url}), flush=True)
        await asyncio.Event().wait()


async def serve_bare() -> None:
    """Run a server that can do nothing but bring all together."""
    waiting: list[tuple[Struct, asyncio.Future[bytes]]] = []
    turns = asyncio.Semaphore(AT_ONCE)

    async def gather(requests: AsyncIterator[bytes], context: Any) -> None:
        request = AllocationAllGatherRequest.FromString(await anext(aiter(requests)))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiting.append((request.data, answer))
        if len(waiting) == request.num_peers:
            group = waiting[:]
            waiting.clear()
            message = AllocationAllGatherResponse(data=[data for data, _ in group])
            encoded = message.SerializeToString()
            for _, future in group:
                future.set_result(encoded)
        encoded = await answer
        async with turns:
            await context.write(encoded)

    server = grpc.aio.server(
        options=(
            ("grpc.max_send_message_length", -1),
            # By default some of a thousand calls that come at once are cancelled unseen.
            ("grpc.server.max_pending_requests", 1 << 16),
            ("grpc.server.max_pending_requests_hard_limit", 1 << 16),
        )
    )
    handler = grpc.stream_stream_rpc_method_handler(gather)
    service, _, method = RPC.strip("/").partition("/")
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


@contextlib.asynccontextmanager
async def process(*words: str) -> AsyncIterator[str]:
    """Run this file with other arguments; gives the URL it prints."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.allgather", *words, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        yield json.loads(await child.stdout.readline())["url"]
    finally:
        child.kill()
        await child.wait()


@contextlib.asynccontextmanager
async def ranks_by_grpc(url: str, ranks: int, size: int) -> AsyncIterator[Take]:
    """Play ranks that speak gRPC."""
    options = (LARGE, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    address = url.removeprefix("http://")
    async with contextlib.AsyncExitStack() as stack:
        calls = [
            (
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            ).unary_unary(RPC)
            for _ in range(ranks)
        ]

        async def take(rank: int, key: str) -> int:
            request = AllocationAllGatherRequest(
                allocation_id=ALLOCATION, request_uuid=key, num_peers=ranks
            )
            request.data.update({"rank": rank, "payload": "x" * size})
            return len(await calls[rank](request.SerializeToString(), metadata=METADATA))

        yield take


@contextlib.asynccontextmanager
async def ranks_by_rest(url: str, ranks: int, size: int) -> AsyncIterator[Take]:
    """Play ranks that speak REST."""
    headers = {f"Grpc-Metadata-{name}": value for name, value in METADATA}
    target = f"{url}/api/v1/allocations/{ALLOCATION}/all_gather"
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        headers=headers, connector=connector, timeout=timeout
    ) as client:

        async def take(rank: int, key: str) -> int:
            data = {"rank": rank, "payload": "x" * size}
            body = {"requestUuid": key, "numPeers": ranks, "data": data}
            async with client.post(target, json=body) as answer:
                answer.raise_for_status()
                return sum([len(chunk) async for chunk in answer.content.iter_any()])

        yield take


async def measure(take: Take, ranks: int, size: int) -> float:
    """Let all ranks meet once; returns seconds until the last has its answer."""
    began = time.monotonic()
    lengths = await asyncio.gather(*(take(rank, str(uuid.uuid4())) for rank in range(ranks)))
    taken_s = time.monotonic() - began
    assert min(lengths) == max(lengths) > ranks * size
    return taken_s


async def compare(ranks: int, size: int, rounds: int, *, by_rest: bool) -> None:
    play = ranks_by_rest if by_rest else ranks_by_grpc
    with tempfile.TemporaryDirectory() as folder:
        async with (
            process("bare") as bare_url,
            process("relay", folder) as relay_url,
            ranks_by_grpc(bare_url, ranks, size) as bare,
            play(relay_url, ranks, size) as relay,
        ):
            times_s: dict[str, list[float]] = {"bare": [], "relay": []}
            for number in range(rounds + 1):
                for name, take in (("bare", bare), ("relay", relay)):
                    taken_s = await measure(take, ranks, size)
                    if number:  # the first opens the connections
                        times_s[name].append(taken_s)
    report(times_s, f"{ranks} ranks, {size} bytes each")


def report(times_s: dict[str, Sequence[float]] | dict[str, list[float]], what: str) -> None:
    medians = {name: statistics.median(times) for name, times in times_s.items()}
    for name, median in medians.items():
        print(f"{name:5} {what}: {median:6.2f} s, worst {max(times_s[name]):.2f} s")
    print(f"ratio {medians['relay'] / medians['bare']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", nargs="*", help="used by the benchmark itself")
    parser.add_argument("--ranks", type=int, default=2048)
    parser.add_argument("--bytes", type=int, default=1024, dest="size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rest", action="store_true", help="the relay's ranks speak REST")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    match options.role:
        case ["bare"]:
            asyncio.run(serve_bare())
        case ["relay", folder]:
            asyncio.run(serve_relay(folder))
        case _:
            asyncio.run(compare(options.ranks, options.size, options.rounds, by_rest=options.rest))


if __name__ == "__main__":
    main()
