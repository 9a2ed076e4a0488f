"""One round of the launcher's watch over many jobs.

With a stand-in: squeue and sacct are programs that print what real ones would of 10,000 jobs. "idle" is
a round in which nothing changed; "changed" one in which 1,000 jobs have ended, each written to disk;
"forgotten" one in which Slurm has purged 1,000 others, which accounting knows; "lost" the same without
accounting, so that the file that each job's script left decides. Limit for each: 2 s, one squeue
and one sacct.

With real Slurm: a private cluster holds 2,000 jobs of the launcher. "squeue" is the bare command with six
fields; "asked" is the launcher's own question, all fields and read; "round" is that with all dispatches
looked at; "changed" is the round in which all of them are found cancelled.

    python -m benchmarks.watch [--jobs 10000] [--changed 1000] [--real 2000] [--rounds 7]
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab.folders import new_folder
from tests.lab.slurm import Slurm

from shipway_launcher.backends import make_slurm
from shipway_launcher.config import load_settings
from shipway_launcher.dispatches.files import job_folder
from shipway_launcher.dispatches.follow import Follower
from shipway_launcher.dispatches.record import Dispatch, DispatchId, Submission, now
from shipway_launcher.dispatches.registry import Registry
from shipway_launcher.dispatches.state import DispatchState
from shipway_launcher.dispatches.store import DispatchStore
from shipway_launcher.dispatches.vanished import Patience
from shipway_launcher.slurm.rows import SlurmJobId
from shipway_launcher.transport.base import Command
from shipway_launcher.users import Users

ME = getpass.getuser()
LIMIT_S = 2.0

STAND_IN = f"""#!{sys.executable} -ISs
import sys
folder, name = sys.argv[0].rsplit("/", 1)
with open(folder + "/calls", "a") as calls:
    calls.write(name + "\\n")
jobs = [line.split() for line in open(folder + "/jobs")]
if name == "sacct":
    ids = set(sys.argv[-1].split(","))
    for job_id, state, listed, submitted in jobs:
        if job_id in ids and not listed == "lost":
            print(f"{{job_id}}|{{state}}|0:0|{{submitted}}|{ME}")
    sys.exit()
fields = [part.split(":", 1) for part in sys.argv[sys.argv.index("-O") + 1].split(",")]
same = {{"UserName": "{ME}", "Partition": "gpu", "NumCPUs": "4", "NumNodes": "1", "NumTasks": "1",
    "exit_code": "0", "RestartCnt": "0", "TimeLimit": "1:00:00", "Reason": "None", "NodeList": "n1"}}
lines = []
for job_id, state, listed, submitted in jobs:
    if listed == "listed":
        own = {{"JobID": job_id, "JobArrayID": job_id, "State": state, "Name": "det-ai_cmd-" + job_id + ".1",
            "Comment": "shipway:" + job_id + ".1", "SubmitTime": submitted}}
        record = {{**same, **own}}
        lines.append("".join(record.get(name, "N/A") + label for name, label in fields))
print("\\n".join(lines))
"""


class StandIn:
    """Programs that print what Slurm's would, of jobs that the benchmark makes up."""

    def __init__(self, folder: Path, count: int) -> None:
        """Write the programs; all *count* jobs run."""
        self.folder = folder
        self.states = {str(number + 1): ("RUNNING", "listed") for number in range(count)}
        folder.mkdir()
        for name in ("squeue", "sacct"):
            (folder / name).write_text(STAND_IN)
            (folder / name).chmod(0o755)
        self.write()

    def write(self) -> None:
        """Let the programs see the states as they are now."""
        at = int(time.time())
        lines = [f"{name} {state} {listed} {at}\n" for name, (state, listed) in self.states.items()]
        (self.folder / "jobs").write_text("".join(lines))
        (self.folder / "calls").write_text("")

    def calls(self, name: str) -> int:
        """Return how often a program was run since the last `write`."""
        return (self.folder / "calls").read_text().split().count(name)


class Site:
    """A launcher's watch, in front of whatever Slurm the environment names."""

    def __init__(self, folder: Path, environment: Mapping[str, str], bin_dir: Path | None) -> None:
        """Make all parts of a watch but the clock."""
        settings = load_settings(
            environment={"PATH": os.environ["PATH"], **environment},
            flags={"job_storage_root": str(folder), "slurm": {"bin_dir": bin_dir}},
        )
        self.root = folder
        self.users = Users(settings)
        self.slurm = make_slurm(settings, self.users)
        store = DispatchStore(folder)
        store.open()
        self.registry = Registry(store)
        self.follower = Follower(
            self.registry,
            self.slurm,
            self.users,
            root=folder,
            patience=Patience(missing_after_s=30, unanswered_after_s=3600),
            kill_after_s=10,
        )

    async def add(self, job_ids: list[str]) -> None:
        """Take in one dispatch for each job."""
        for job_id in job_ids:
            await self.registry.add(make_dispatch(job_id), b"{}")

    async def round(self) -> None:
        """Do what the watch does in one round."""
        await self.follower.follow(await self.slurm.jobs())

    def ended(self) -> int:
        """Return how many dispatches have ended."""
        return sum(dispatch.state.is_final for dispatch in self.registry.all())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--changed", type=int, default=1_000)
    parser.add_argument("--real", type=int, default=2_000, help="jobs of the real Slurm; 0: none")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure_stand_in(Path(folder), options.jobs, options.changed, options.rounds))
    if options.real:
        cluster = Slurm(new_folder("slurm"), nodes=1, more_config=["MaxJobCount=50000"])
        with cluster, tempfile.TemporaryDirectory() as folder:
            print(f"real Slurm, {options.real} jobs on hold")
            job_ids = submit(cluster, options.real)
            asyncio.run(measure_real(cluster, Path(folder), job_ids, options.rounds))


async def measure_stand_in(folder: Path, count: int, changed: int, rounds: int) -> None:
    """Time the kinds of rounds, and count the questions."""
    stand_in = StandIn(folder / "bin", count)
    site = Site(folder / "root", {}, stand_in.folder)
    names = list(stand_in.states)
    print(f"stand-in, {count} jobs, {changed} changed in a round")
    await site.add(names)
    await site.round()
    argv = (str(stand_in.folder / "squeue"), "-O", "JobID:|,State:|")
    base_s = await median_s(lambda: run(site.users, argv), rounds)
    print(f"{'squeue':10} {base_s * 1e3:8.1f} ms  (the stand-in alone, two fields)")
    stand_in.write()
    idle_s = await median_s(site.round, rounds)
    print(f"{'idle':10} {idle_s * 1e3:8.1f} ms")
    for number, (what, listed) in enumerate(
        (("changed", "listed"), ("forgotten", "purged"), ("lost", "lost"))
    ):
        for name in names[number * changed : (number + 1) * changed]:
            stand_in.states[name] = ("COMPLETED", listed)
            if listed == "lost":
                leave_exit(site.root, name)
        stand_in.write()
        began = time.perf_counter()
        await site.round()
        took_s = time.perf_counter() - began
        verdict = "ok" if took_s < LIMIT_S and site.ended() == (number + 1) * changed else "MISSED"
        questions = f"{stand_in.calls('squeue')} squeue, {stand_in.calls('sacct')} sacct"
        print(f"{what:10} {took_s * 1e3:8.1f} ms  {questions}, limit {LIMIT_S:g} s: {verdict}")


async def measure_real(cluster: Slurm, folder: Path, job_ids: list[str], rounds: int) -> None:
    """Time each kind of look at a real Slurm."""
    site = Site(folder, cluster.environment, None)
    await site.add(job_ids)
    await site.round()

    async def asked() -> None:
        await site.slurm.jobs()

    argv = ("squeue", "-h", "-t", "all", "-o", "%i|%T|%r|%N|%j|%u")
    base_s = await median_s(lambda: run(site.users, argv), rounds)
    print(f"{'squeue':10} {base_s * 1e3:8.1f} ms")
    for name, look in (("asked", asked), ("round", site.round)):
        show(name, await median_s(look, rounds), base_s)
    await asyncio.to_thread(cluster.run, ["scancel", "-u", ME], limit_s=120)
    began = time.perf_counter()
    await site.round()
    show("changed", time.perf_counter() - began, base_s)
    print(f"{site.ended()} of {len(job_ids)} dispatches have ended")


def submit(cluster: Slurm, count: int) -> list[str]:
    """Submit jobs that the launcher takes for its own."""

    def one(_: int) -> str:
        options = ["--parsable", "--hold", "-o", "/dev/null", "--wrap", "true"]
        return cluster.run(["sbatch", *options]).stdout.strip()

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(count)))


def leave_exit(root: Path, name: str) -> None:
    """Write what a job's script leaves."""
    folder = job_folder(root, ME, f"{name}.1")
    folder.mkdir(parents=True)
    (folder / "exit").write_text(f"0 {name}\n")


def make_dispatch(job_id: str) -> Dispatch:
    """Return the dispatch of a job."""
    at = now()
    return Dispatch(
        id=DispatchId(f"{job_id}.1"),
        owner=ME,
        name="det",
        payload="ai_cmd",
        carrier="com.cray.analytics.capsules.carriers.hpc.slurm.SandboxOverSlurm",
        job_name=f"det-ai_cmd-{job_id}.1",
        digest="0",
        created_at=at,
        state=DispatchState.PENDING,
        submission=Submission.SUBMITTED,
        updated_at=at,
        job_id=SlurmJobId(job_id),
    )


async def run(users: Users, argv: tuple[str, ...]) -> None:
    """Run a program as the launcher does, and throw away what it prints."""
    await users.own.run(Command(argv=argv, timeout_s=60))


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
    print(f"{name:10} {seconds * 1e3:8.1f} ms  ratio {seconds / base_s:.2f}")


if __name__ == "__main__":
    main()
