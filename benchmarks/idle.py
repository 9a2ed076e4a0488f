"""What an idle agent costs, and how long one with many containers takes to come back.

An agent with eight artificial slots is connected to a stand-in for the master and has nothing to
do: its memory and its share of a core are read from /proc. Then it gets containers that sleep, and
is stopped and started as `systemctl restart` does; what counts is the time until the master has
heard that all of them are there. Each figure is also a ratio to its goal; 1 or less reaches it.

    python -m benchmarks.idle [--seconds 60] [--containers 50] [--runtime sandbox] [--rounds 3]

`--runtime docker` needs an engine at DOCKER_HOST and an image (`--image`) with `sleep` in it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.agent.stand_in import StandInMaster

_MEMORY_GOAL_MIB = 70
_CPU_GOAL_PERCENT = 0.2
_RESTART_GOAL_S = 5
_SETTLE_S = 5.0
_SLOTS = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--runtime", default="sandbox")
    parser.add_argument("--image", default="")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shipway-idle-") as folder:
        asyncio.run(_measure(options, Path(folder)))


async def _measure(options: argparse.Namespace, folder: Path) -> None:
    async with StandInMaster() as master:
        agent = _Agent(master, folder, options.runtime)
        await agent.start()
        try:
            await _measure_idle(agent, options.seconds)
            await _measure_restarts(agent, master, options)
        finally:
            await agent.stop()


async def _measure_idle(agent: _Agent, seconds: float) -> None:
    await asyncio.sleep(_SETTLE_S)
    percent = await _cpu_percent(agent, seconds)
    _print("idle memory", agent.memory_mib(), "MiB", _MEMORY_GOAL_MIB)
    _print("idle CPU", percent, "% of a core", _CPU_GOAL_PERCENT)


async def _cpu_percent(agent: _Agent, seconds: float) -> float:
    cpu_s, begun = agent.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    return (agent.cpu_s() - cpu_s) / (time.monotonic() - begun) * 100


async def _measure_restarts(
    agent: _Agent, master: StandInMaster, options: argparse.Namespace
) -> None:
    changes = {"image": options.image} if options.image else {}
    tasks = [
        await master.start("sleep", "100000", slots=0, **changes) for _ in range(options.containers)
    ]
    for task in tasks:
        await master.until(lambda task=task: "RUNNING" in master.containers[task].states)
    await asyncio.sleep(_SETTLE_S)
    percent = await _cpu_percent(agent, options.seconds)
    _print(f"memory with {options.containers} containers", agent.memory_mib(), "MiB")
    _print(f"CPU with {options.containers} containers", percent, "% of a core")
    seconds: list[float] = []
    for _ in range(options.rounds):
        begun = time.monotonic()
        await agent.stop()
        await agent.start()
        seconds.append(time.monotonic() - begun)
        found = [one["Container"]["state"] for one in master.hellos[-1]["ContainersReattached"]]
        if found != ["RUNNING"] * options.containers:
            raise RuntimeError(f"the agent found its containers so: {found}")
    name = f"restart with {options.containers} containers"
    _print(name, statistics.median(seconds), "s", _RESTART_GOAL_S)
    for task in tasks:
        await master.signal(task)
    for task in tasks:
        await master.ended(task)


def _print(name: str, value: float, unit: str, goal: float | None = None) -> None:
    ratio = f"  goal {goal:g}  ratio {value / goal:.2f}" if goal is not None else ""
    print(f"{name:32} {value:8.3f} {unit:12}{ratio}", flush=True)


class _Agent:
    def __init__(self, master: StandInMaster, folder: Path, runtime: str) -> None:
        self._master = master
        self._log = folder / "agent.log"
        self._process: asyncio.subprocess.Process | None = None
        self._words = [
            "--master-host=127.0.0.1",
            f"--master-port={master.port}",
            "--agent-id=idle",
            f"--artificial-slots={_SLOTS}",
            f"--container-runtime={runtime}",
            f"--state-dir={folder}/state",
        ]

    async def start(self) -> None:
        hellos = len(self._master.hellos)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "shipway_agent", "run", *self._words),
                stdout=log,
                stderr=log,
            )
        await self._master.connected(hellos + 1)

    async def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await self._process.wait()

    def cpu_s(self) -> float:
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task").glob("*/schedstat")
        return sum(int(one.read_text(encoding="ascii").split()[0]) for one in threads) / 1e9

    def memory_mib(self) -> float:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
