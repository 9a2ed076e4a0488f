"""A task of several ranks that can be pre-empted: the demo runs it, and it may be copied freely.

Only the standard library is used, so it runs in any image that has Python 3.9 or newer. What it
knows of the cluster it takes from its environment (DET_MASTER, DET_ALLOCATION_ID, DET_SLOT_IDS,
SLURM_PROCID, …), and what it tells the cluster goes by the public REST API:

1. each rank reports that it runs;
2. each rank sends its address to the all-gather and gets the addresses of all;
3. the ranks fit a line by gradient descent, their gradients averaged over TCP by rank 0;
4. rank 0 asks, without hurry, whether the task is to make room; if so it writes a checkpoint,
   acknowledges, and all ranks leave; the next run goes on from the checkpoint.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]

POINTS_PER_RANK = 200
SLOPE, INTERCEPT = 3.0, -1.5
LEARNING_RATE = 0.05


def say(text: str, rank: int | None = None) -> None:
    """Print one line; `[rank=N]` in front is how Determined's own launchers mark a rank."""
    print(text if rank is None else f"[rank={rank}] {text}", flush=True)


class Cluster:
    """The calls of one rank to the master, made for the allocation that it belongs to."""

    def __init__(self) -> None:
        self._master = os.environ["DET_MASTER"].rstrip("/")
        self._allocation = os.environ["DET_ALLOCATION_ID"]
        self._token = os.environ["DET_SESSION_TOKEN"]

    def call(self, verb: str, path: str, body: Any = None, *, timeout_s: float = 600) -> Any:
        """Call `/api/v1/allocations/<this one>/<path>` and return the decoded answer."""
        request = urllib.request.Request(  # noqa: S310 (http or https, as the master's URL says)
            f"{self._master}/api/v1/allocations/{self._allocation}/{path}",
            method=verb,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Grpc-Metadata-x-allocation-token": f"Bearer {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310
            return json.load(answer)

    def report_running(self, rank: int, world: int) -> None:
        self.call(
            "POST",
            "notify_container_running",
            {
                "allocationId": self._allocation,
                "requestUuid": str(uuid.uuid4()),
                "numPeers": world,
                "rank": rank,
                "nodeName": os.environ.get("DET_AGENT_ID") or socket.gethostname(),
                "data": {},
            },
        )

    def all_gather(self, world: int, data: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.call(
            "POST",
            "all_gather",
            {
                "allocationId": self._allocation,
                "requestUuid": str(uuid.uuid4()),
                "numPeers": world,
                "data": data,
            },
        )
        return sorted(answer["data"], key=lambda peer: int(peer["rank"]))

    def acknowledge_preemption(self) -> None:
        self.call("POST", "signals/ack_preemption")


class PreemptionWatch(threading.Thread):
    """Asks the master, again and again, whether this allocation is to make room."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True, name="preemption watch")
        self._cluster = cluster
        self.wanted = threading.Event()

    def run(self) -> None:
        while not self.wanted.is_set():
            try:
                path = "signals/preemption?timeout_seconds=60"
                if self._cluster.call("GET", path, timeout_s=75)["preempt"]:
                    self.wanted.set()
            except (OSError, ValueError) as error:
                say(f"WARNING: no answer about preemption, asking again: {error}", 0)
                time.sleep(2)


class Averager:
    """Rank 0 and the others, connected in a star, exchange one JSON line each per step."""

    def __init__(self, rank: int, listener: socket.socket, addresses: list[str]) -> None:
        self._rank = rank
        self._links: list[io.BufferedRWPair] = []
        if rank == 0:
            for _ in addresses[1:]:
                connection, _peer = listener.accept()
                self._links.append(connection.makefile("rwb"))
        else:
            host, port = addresses[0].rsplit(":", 1)
            self._links.append(socket.create_connection((host, int(port)), 60).makefile("rwb"))

    def exchange(self, mine: Message, decide: Callable[[list[Message]], Message]) -> Message:
        """Send *mine* to rank 0; every rank gets what `decide(list of all)` says there."""
        if self._rank:
            self._send(self._links[0], mine)
            return self._receive(self._links[0])
        verdict = decide([mine, *(self._receive(link) for link in self._links)])
        for link in self._links:
            self._send(link, verdict)
        return verdict

    @staticmethod
    def _send(link: io.BufferedRWPair, message: dict[str, Any]) -> None:
        link.write(json.dumps(message).encode() + b"\n")
        link.flush()

    @staticmethod
    def _receive(link: io.BufferedRWPair) -> dict[str, Any]:
        line = link.readline()
        if not line:
            raise ConnectionError("the peer left")
        message: dict[str, Any] = json.loads(line)
        return message


def load_checkpoint(path: Path) -> dict[str, Any]:
    if path.exists():
        state: dict[str, Any] = json.loads(path.read_text())
        return state
    return {"step": 0, "slope": 0.0, "intercept": 0.0}


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps(state))
    aside.replace(path)


def gradient(state: dict[str, Any], points: list[tuple[float, float]]) -> dict[str, float]:
    errors = [(state["slope"] * x + state["intercept"] - y, x) for x, y in points]
    return {
        "slope": sum(2 * error * x for error, x in errors) / len(points),
        "intercept": sum(2 * error for error, _ in errors) / len(points),
        "loss": sum(error * error for error, _ in errors) / len(points),
    }


def open_listener() -> tuple[socket.socket, str]:
    """Listen at the address that this host uses towards the master; nothing is sent to find it."""
    master = urllib.parse.urlsplit(os.environ["DET_MASTER"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((master.hostname, master.port or 80))
        host = probe.getsockname()[0]
    listener = socket.create_server((host, 0))
    return listener, f"{host}:{listener.getsockname()[1]}"


def run_rank(rank: int, world: int, options: argparse.Namespace) -> int:
    cluster = Cluster()
    if os.environ.get("DET_RESOURCES_TYPE") != "slurm-job":  # there the agent reports each node
        cluster.report_running(rank, world)
    say(f"running as one of {world}", rank)

    listener, address = open_listener()
    peers = cluster.all_gather(world, {"rank": rank, "address": address})
    addresses = [str(peer["address"]) for peer in peers]
    say(f"all-gather gave {len(addresses)} addresses: {' '.join(addresses)}", rank)
    averager = Averager(rank, listener, addresses)

    checkpoint = Path(options.checkpoint)
    state = averager.exchange({}, lambda _: load_checkpoint(checkpoint))
    if state["step"] and rank == 0:
        say(f"resuming from step {state['step']}", rank)
    watch = PreemptionWatch(cluster)
    if rank == 0:
        watch.start()

    noise = random.Random(rank)
    points = [
        (x, SLOPE * x + INTERCEPT + noise.gauss(0, 0.1))
        for x in (noise.uniform(-1, 1) for _ in range(POINTS_PER_RANK))
    ]

    def average(everyone: list[dict[str, Any]]) -> dict[str, Any]:
        means = {
            key: sum(one[key] for one in everyone) / world for key in ("slope", "intercept", "loss")
        }
        return {**means, "leave": watch.wanted.is_set()}

    while state["step"] < options.steps:
        mean = averager.exchange(gradient(state, points), average)
        state["slope"] -= LEARNING_RATE * mean["slope"]
        state["intercept"] -= LEARNING_RATE * mean["intercept"]
        state["step"] += 1
        if rank == 0 and state["step"] % 10 == 0:
            say(f"step {state['step']}/{options.steps} loss {mean['loss']:.4f}", rank)
        if mean["leave"]:
            if rank == 0:
                save_checkpoint(checkpoint, state)
                say(f"pre-empted: checkpoint written at step {state['step']}, leaving", rank)
                cluster.acknowledge_preemption()
            return 0
        time.sleep(options.step_s)
    if rank == 0:
        line = f"y = {state['slope']:.2f} x + {state['intercept']:.2f}"
        say(f"finished at step {state['step']}: {line}", rank)
    return 0


def run_ranks_of_this_node(options: argparse.Namespace) -> int:
    """Start one process per slot of this container and wait for all of them."""
    local = max(len(json.loads(os.environ.get("DET_SLOT_IDS") or "[0]")), 1)
    node = int(os.environ.get("SLURM_PROCID", "0"))
    world = local * int(os.environ.get("SLURM_NPROCS", "1"))
    children = [
        subprocess.Popen(  # noqa: S603 (this very program)
            [sys.executable, __file__, *sys.argv[1:], "--rank", str(rank), "--world", str(world)]
        )
        for rank in range(node * local, (node + 1) * local)
    ]
    codes = [child.wait() for child in children]
    return next((code for code in codes if code), 0)


def ignore_signal(_number: int, _frame: object) -> None:
    """Do nothing; unlike SIG_IGN, this is not inherited by other programs."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Fit a line on several ranks.")
    parser.add_argument("--steps", type=int, default=120, help="how many steps make a training")
    parser.add_argument("--step-s", type=float, default=0.1, help="pause after a step, in seconds")
    parser.add_argument("--checkpoint", required=True, help="file that outlives the container")
    parser.add_argument("--rank", type=int, help="set by the program itself")
    parser.add_argument("--world", type=int, help="set by the program itself")
    options = parser.parse_args()
    # Who wants the task to leave asks through the master; a bare TERM must not cost the checkpoint.
    signal.signal(signal.SIGTERM, ignore_signal)
    if options.rank is None:
        return run_ranks_of_this_node(options)
    return run_rank(options.rank, options.world, options)


if __name__ == "__main__":
    sys.exit(main())
