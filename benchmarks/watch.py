"""One round of the launcher's watch over N jobs, against a bare `squeue` of the same cluster.

A private Slurm holds N jobs of the launcher. "squeue" is the command with six fields; "asked" is the
launcher's own question, all fields and read; "round" is that with all N dispatches looked at, none of
them changed; "changed" is the round in which all N are found cancelled, each written to disk.

    python benchmarks/watch.py [--jobs 2000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab.folders import new_folder
from tests.lab.slurm import Slurm

from shipway_launcher.backends import make_slurm
from shipway_launcher.config import load_settings
from shipway_launcher.dispatches.follow import Follower
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.vanished import Patience
from shipway_launcher.slurm.rows import SlurmJobId
from shipway_launcher.transport.base import Command
from shipway_launcher.users import Users


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    cluster = Slurm(new_folder("slurm"), nodes=1, more_config=["MaxJobCount=50000"])
    with cluster, tempfile.TemporaryDirectory() as folder:
        print(f"submitting {options.jobs} jobs on hold")
        job_ids = submit(cluster, options.jobs)
        asyncio.run(measure(cluster, Path(folder), job_ids, options.rounds))


def submit(cluster: Slurm, count: int) -> list[str]:
    """Submit jobs named like the launcher's."""

    def one(number: int) -> str:
        name = f"det-ai_cmd-{number}.1"
        options = ["--parsable", "--hold", "-J", name, "-o", "/dev/null", "--wrap", "true"]
        return cluster.run(["sbatch", *options]).stdout.strip()

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(count)))


async def measure(cluster: Slurm, folder: Path, job_ids: list[str], rounds: int) -> None:
    """Time each kind of look."""
    settings = load_settings(
        environment={"PATH": os.environ["PATH"], **cluster.environment},
        flags={"job_storage_root": str(folder)},
    )
    users = Users(settings)
    slurm = make_slurm(settings, users)
    store = DispatchStore(folder)
    store.open(is_shared=False)
    registry = Registry(store)
    for number, job_id in enumerate(job_ids):
        await registry.add(make_dispatch(number, job_id), b"{}")
    patience = Patience(missing_after_s=30, unanswered_after_s=3600)
    follower = Follower(registry, slurm, users, root=folder, patience=patience, kill_after_s=10)

    async def squeue() -> None:
        argv = ("squeue", "-h", "-t", "all", "-o", "%i|%T|%r|%N|%j|%u")
        await users.own.run(Command(argv=argv, timeout_s=60))

    async def asked() -> None:
        await slurm.jobs()

    async def one_round() -> None:
        await follower.follow(await slurm.jobs())

    base_s = await median_s(squeue, rounds)
    print(f"{'squeue':8} {base_s * 1e3:8.1f} ms")
    for name, look in (("asked", asked), ("round", one_round)):
        show(name, await median_s(look, rounds), base_s)
    await asyncio.to_thread(cluster.run, ["scancel", "-u", getpass.getuser()], limit_s=120)
    began = time.perf_counter()
    await one_round()
    show("changed", time.perf_counter() - began, base_s)
    ended = sum(dispatch.state.is_final for dispatch in registry.all())
    print(f"{ended} of {len(job_ids)} dispatches have ended")


def make_dispatch(number: int, job_id: str) -> Dispatch:
    """Return the dispatch of a job."""
    at = now()
    return Dispatch(
        id=DispatchId(f"{number}.1"),
        owner=getpass.getuser(),
        name="det",
        payload="ai_cmd",
        carrier="com.cray.analytics.capsules.carriers.hpc.slurm.SandboxOverSlurm",
        job_name=f"det-ai_cmd-{number}.1",
        digest="0",
        created_at=at,
        state=DispatchState.PENDING,
        submission=Submission.SUBMITTED,
        updated_at=at,
        job_id=SlurmJobId(job_id),
    )


async def median_s(look: Callable[[], Awaitable[None]], rounds: int) -> float:
    """Return the median time of a look, in seconds."""
    times: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await look()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def show(name: str, seconds: float, base_s: float) -> None:
    """Print a time and its ratio to squeue's."""
    print(f"{name:8} {seconds * 1e3:8.1f} ms  ratio {seconds / base_s:.2f}")


if __name__ == "__main__":
    main()
