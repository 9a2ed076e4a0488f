"""Lines per second, and per second of CPU, from a task's output to a master, against a peer.

The peer does what the shipper that runs inside the containers of Determined does, the way it does
it: a thread per stream reads lines and matches two regular expressions, a queue, and batches of up
to 1,000 lines as JSON, each posted over a new HTTP connection. "pipeline" is the agent's way from
bytes to gRPC in a process of its own, fed by the same writer through the same kind of pipe; "rest"
is the same where there is no gRPC. The stub master reads every line of every batch and counts.

"agent" is all of it: a task in the sandbox, the shim that holds it, the daemon. Its CPU is that of
shim and daemon; the peak of the daemon's memory is shown. A master that takes a tenth of what the
task writes shows what backlog costs in memory.

    python -m benchmarks.logs [--lines 1000000] [--width 80] [--rounds 3] [--prefix '[rank=3] INFO: ']
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import queue
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from aiohttp import WSMsgType, web

from shipway_agent.logs.delivery import LogDelivery
from shipway_agent.logs.encode import BatchEncoder, LogSource
from shipway_agent.logs.forward import OutputForwarder, from_first_byte
from shipway_agent.logs.journal import Journal
from shipway_agent.logs.place import job_log_place
from shipway_agent.logs.routes import LogRoutes, TaskRoute
from shipway_agent.runtimes.spec import Chunk
from shipway_common.frontdoor import FrontDoor
from shipway_proto.determined.api.v1.task_pb2 import PostTaskLogsRequest, PostTaskLogsResponse

SOURCE = LogSource(
    task_id="7.2f6c4a5b-1111-2222-3333-444444444444",
    allocation_id="7.2f6c4a5b-1111-2222-3333-444444444444.1",
    agent_id="gpu-07",
    container_id="0d9c2c5e-3c43-4a53-9f0b-9c1b9d5b7a11",
)
_READ_BYTES = 1 << 20
_PEER_READ_BYTES = 8191
_writer = """
import sys
lines, width, prefix = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
block = b"".join(
    (prefix + b"step %d loss %.4f " % (number, 1 / (number + 1))).ljust(width - 2 - number % 9, b"x")
    + b"\\n"
    for number in range(1000)
)
for _ in range(lines // 1000):
    sys.stdout.buffer.write(block)
"""


@dataclass(frozen=True, kw_only=True)
class Result:
    seconds: float
    cpu_seconds: float
    note: str = ""


# the stub master


class Stub:
    """Counts lines; with a rate, it takes no more of them in a second."""

    def __init__(self) -> None:
        self.lines = 0
        self.order: dict[str, Any] | None = None
        self.begun, self.ended = asyncio.Event(), asyncio.Event()
        self.rate: float | None = None

    async def count(self, number: int) -> None:
        self.lines += number
        self.begun.set()
        if self.rate is not None:
            await asyncio.sleep(number / self.rate)

    async def grpc(self, request: PostTaskLogsRequest, _: object) -> PostTaskLogsResponse:
        await self.count(len(request.logs))
        return PostTaskLogsResponse()

    async def rest(self, request: web.Request) -> web.Response:
        await self.count(len(json.loads(await request.read())["logs"]))
        return web.json_response({})

    async def agents(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        info = {"version": "0.38.1", "master_id": "m", "cluster_id": "c", "cluster_name": ""}
        options = {"MasterInfo": info, "LoggingOptions": {}, "ContainersToReattach": None}
        await socket.send_json({"MasterSetAgentOptions": options})
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            body = json.loads(message.data)
            if body.get("AgentStarted") and self.order is not None:
                await socket.send_json({"StartContainer": self.order})
            change = body.get("ContainerStateChanged")
            if change and change["Container"]["state"] == "TERMINATED":
                self.ended.set()
        return socket


@contextlib.asynccontextmanager
async def serving(stub: Stub, *, has_grpc: bool = True) -> AsyncIterator[int]:
    async with contextlib.AsyncExitStack() as stack:
        app = web.Application(client_max_size=1 << 26)
        app.add_routes([web.post("/api/v1/task/logs", stub.rest), web.get("/agents", stub.agents)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if not has_grpc:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield runner.addresses[0][1]
            return
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        door = await stack.enter_async_context(FrontDoor(Path(folder) / "grpc"))
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            stub.grpc,
            request_deserializer=PostTaskLogsRequest.FromString,
            response_serializer=PostTaskLogsResponse.SerializeToString,
        )
        name = "determined.api.v1.Determined"
        handlers = grpc.method_handlers_generic_handler(name, {"PostTaskLogs": handler})
        server.add_generic_rpc_handlers((handlers,))
        server.add_insecure_port(f"unix:{folder}/grpc")
        await server.start()
        stack.push_async_callback(server.stop, 0.1)
        assert runner.server is not None
        yield await door.listen("127.0.0.1", 0, runner.server)


async def serve_stub(has_grpc: bool) -> None:
    """Be a process that says where it listens and, asked by a line, how much it has."""
    stub = Stub()
    async with serving(stub, has_grpc=has_grpc) as port:
        print(port, flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(stub.lines, flush=True)


# what is compared, each in a process of its own that reads standard input


class Peer:
    """The stand-in for the original's shipper."""

    line_end = re.compile(rb"[\r\n]")
    rank = re.compile(r" ?\[rank=(?P<rank>[0-9]+)\] ?(?P<rest>.*)", re.DOTALL)
    level = re.compile(r" ?(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): ?(?P<rest>.*)", re.DOTALL)

    def __init__(self, url: str) -> None:
        self.url = url + "/api/v1/task/logs"
        self.queue: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def run(self) -> None:
        nothing, end = os.pipe()
        os.close(end)
        readers = [
            threading.Thread(target=self.read, args=(descriptor, name))
            for descriptor, name in ((0, "stdout"), (nothing, "stderr"))
        ]
        for reader in readers:
            reader.start()
        self.ship()
        for reader in readers:
            reader.join()

    def read(self, descriptor: int, name: str) -> None:
        for line in self.lines(descriptor):
            self.queue.put(self.record(line, name))
        self.queue.put(None)

    def lines(self, descriptor: int) -> Iterator[str]:
        begun: list[bytes] = []
        while data := os.read(descriptor, _PEER_READ_BYTES):
            while found := self.line_end.search(data):
                yield b"".join([*begun, data[: found.start()], b"\n"]).decode()
                begun, data = [], data[found.end() :]
            if data:
                begun.append(data)
        if begun:
            yield b"".join([*begun, b"\n"]).decode()

    def record(self, text: str, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "timestamp": datetime.now(UTC).isoformat(),
            "stdtype": name,
            "task_id": SOURCE.task_id,
            "allocation_id": SOURCE.allocation_id,
            "container_id": SOURCE.container_id,
            "agent_id": SOURCE.agent_id,
            "source": "task",
        }
        if found := self.rank.match(text):
            entry["rank_id"], text = int(found["rank"]), found["rest"]
        if found := self.level.match(text):
            entry["level"], text = f"LOG_LEVEL_{found['level']}", found["rest"]
        return {**entry, "log": text}

    def ship(self) -> None:
        streams = 2
        while streams:
            batch: list[dict[str, Any]] = []
            deadline = time.monotonic() + 1
            while streams and len(batch) < 1000:
                try:
                    entry = self.queue.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    break
                if entry is None:
                    streams -= 1
                else:
                    batch.append(entry)
            if batch:
                body = json.dumps({"logs": batch}).encode()
                request = urllib.request.Request(self.url, body, method="POST")
                with urllib.request.urlopen(request, timeout=60) as answer:
                    answer.read()


async def run_pipeline(url: str) -> None:
    """Ship standard input as the agent does."""

    async def output() -> AsyncIterator[Chunk]:
        while data := await asyncio.to_thread(os.read, 0, _READ_BYTES):
            yield Chunk(stream="stdout", data=data)

    place = job_log_place(url, {}, None)
    with tempfile.TemporaryDirectory() as folder:
        async with (
            LogRoutes(lambda: place) as routes,
            TaskRoute(routes, BatchEncoder(SOURCE), "token") as route,
        ):
            delivery = LogDelivery(
                route, SOURCE, Journal(Path(folder) / "sent"), instead=None, on_note=print
            )
            await OutputForwarder(
                from_first_byte(output),
                delivery,
                delivered={},
                on_delivered=lambda stream, end: None,
            ).run()


def ship(role: str, url: str) -> None:
    """Be one of those that are compared; says how long it took, its CPU time and its memory."""
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    if role == "peer":
        Peer(url).run()
    else:
        asyncio.run(run_pipeline(url))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    print(time.perf_counter() - begun, cpu, used.ru_maxrss / 1024)


# measuring


@contextlib.contextmanager
def stub_process(has_grpc: bool) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, __file__, "stub", str(int(has_grpc))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def ask(stub: subprocess.Popen[str]) -> int:
    assert stub.stdin is not None
    assert stub.stdout is not None
    stub.stdin.write("\n")
    stub.stdin.flush()
    return int(stub.stdout.readline())


def measure(role: str, options: argparse.Namespace) -> Result:
    with stub_process(has_grpc=role == "pipeline") as stub:
        assert stub.stdout is not None
        url = f"http://127.0.0.1:{int(stub.stdout.readline())}"
        words = [str(options.lines), str(options.width), options.prefix]
        with (
            subprocess.Popen(
                [sys.executable, "-c", _writer, *words], stdout=subprocess.PIPE
            ) as writer,
            subprocess.Popen(
                [sys.executable, __file__, role, url],
                stdin=writer.stdout,
                stdout=subprocess.PIPE,
                text=True,
            ) as shipper,
        ):
            assert writer.stdout is not None
            writer.stdout.close()
            answer, _ = shipper.communicate()
        if (seen := ask(stub)) != options.lines:
            raise RuntimeError(f"{role}: {seen} lines arrived, not {options.lines}")
    seconds, used, memory_mib = (float(word) for word in answer.split())
    return Result(seconds=seconds, cpu_seconds=used, note=f"{memory_mib:.0f} MiB")


async def measure_agent(options: argparse.Namespace, rate: float | None, lines: int) -> Result:
    stub = Stub()
    stub.rate = rate
    words = [sys.executable, "-c", _writer, str(lines), str(options.width), options.prefix]
    stub.order = start_order(words)
    async with serving(stub) as port:
        with tempfile.TemporaryDirectory() as folder:
            daemon = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "shipway_agent", "run", "--master-host=127.0.0.1"],
                *[f"--master-port={port}", f"--state-dir={folder}", "--artificial-slots=1"],
                *["--container-runtime=sandbox", "--agent-id=gpu-07", "--log-level=warning"],
            )
            cpu = CpuWatch(daemon.pid, folder)
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(cpu.run())
                await stub.begun.wait()
                begun, before = time.perf_counter(), cpu.seconds()
                await stub.ended.wait()
                seconds = time.perf_counter() - begun
                used, shims = cpu.seconds() - before, cpu.shim_seconds()
                watching.cancel()
            peak = status_mib(daemon.pid, "VmHWM")
            daemon.terminate()
            await daemon.wait()
    if stub.lines != lines:
        raise RuntimeError(f"agent: {stub.lines} lines arrived, not {lines}")
    note = f"(shim {shims / used:.0%} of it), daemon's peak {peak:.0f} MiB"
    return Result(seconds=seconds, cpu_seconds=used, note=note)


class CpuWatch:
    """CPU time of the daemon and of the shims in its folder, which end before we do."""

    def __init__(self, daemon: int, folder: str) -> None:
        self._daemon, self._folder = daemon, folder.encode()
        self._shims: dict[int, float] = {}

    async def run(self) -> None:
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(0.02)

    def look(self) -> None:
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes()
                if b"shipway_agent.shim" in words and self._folder in words:
                    self._shims[int(path.name)] = cpu_seconds(int(path.name))

    def seconds(self) -> float:
        return cpu_seconds(self._daemon) + self.shim_seconds()

    def shim_seconds(self) -> float:
        return sum(self._shims.values())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def status_mib(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} in the status of {pid}")


def start_order(words: list[str]) -> dict[str, Any]:
    container_id = str(uuid.uuid4())
    environment = [
        "DET_SESSION_TOKEN=token",
        f"DET_ALLOCATION_ID={SOURCE.allocation_id}",
        f"DET_TASK_ID={SOURCE.task_id}",
    ]
    run = {
        "ContainerConfig": {"Env": environment, "Cmd": words, "Image": "", "WorkingDir": "/"},
        "HostConfig": {"NetworkMode": "host"},
        "Archives": [],
    }
    container = {"id": container_id, "state": "ASSIGNED", "devices": None, "description": "b"}
    return {"Container": container, "Spec": {"TaskType": "COMMAND", "PullSpec": {}, "RunSpec": run}}


def show(name: str, result: Result, lines: int, peer: Result | None) -> None:
    ratios = ""
    if peer is not None:
        ratios = (
            f"  x{peer.seconds / result.seconds:.1f} lines/s"
            f"  x{peer.cpu_seconds / result.cpu_seconds:.1f} lines/CPU-s"
        )
    print(
        f"{name:14} {lines / result.seconds:10,.0f} lines/s {lines / result.cpu_seconds:10,.0f}"
        f" lines/CPU-s {result.note}{ratios}"
    )


def median(results: list[Result]) -> Result:
    return Result(
        seconds=statistics.median(result.seconds for result in results),
        cpu_seconds=statistics.median(result.cpu_seconds for result in results),
        note=max(result.note for result in results),
    )


def compare(options: argparse.Namespace) -> None:
    options.lines -= options.lines % 1000
    lines = options.lines
    print(f"{lines:,} lines of {options.width} bytes, median of {options.rounds} rounds")
    rounds = range(options.rounds)
    peer = median([measure("peer", options) for _ in rounds])
    show("peer", peer, lines, None)
    for role in ("pipeline", "rest"):
        show(role, median([measure(role, options) for _ in rounds]), lines, peer)
    whole = median([asyncio.run(measure_agent(options, None, lines)) for _ in rounds])
    show("agent", whole, lines, peer)
    slow_lines = lines // 10000 * 1000
    slow = asyncio.run(measure_agent(options, lines / whole.seconds / 10, slow_lines))
    show("slow master", slow, slow_lines, None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("role", nargs="*", help="used by the benchmark itself")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prefix", default="", help="before each line")
    options = parser.parse_args()
    match options.role:
        case ["stub", has_grpc]:
            asyncio.run(serve_stub(has_grpc == "1"))
        case ["peer" | "pipeline" | "rest" as role, url]:
            ship(role, url)
        case _:
            compare(options)


if __name__ == "__main__":
    main()
