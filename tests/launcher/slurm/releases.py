"""One real cluster of each release, full of jobs that end in every way."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from shipway_launcher.commandline import Programs
from shipway_launcher.slurm.cli import CommandLineSlurm
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.transport.machine import LocalMachine
from tests.lab import slurm as slurm_lab
from tests.lab import slurm_releases
from tests.lab.folders import new_folder
from tests.lab.slurm import Slurm

OWN = "the machine's own"
RELEASES = (OWN, *slurm_releases.SUITES)
JOBS: Mapping[str, list[str]] = {
    "completed": ["-wn4", "--wrap=true"],
    "failed": ["-wn4", "--wrap=exit 3"],
    "killed": ["-wn4", "--wrap=kill -9 $$"],
    "timed out": ["-wn4", "--time=1", "--wrap=sleep 600"],
    "cancelled outside": ["-wn4", "--wrap=sleep 600"],
    "preempted": ["-wn1", "--no-requeue", "--wrap=sleep 600"],
    "preempted, left in time": ["-wn1", "--no-requeue", "--wrap=srun sh -c '{trap}'"],
    "node failed": ["-wn2", "--no-requeue", "--wrap=sleep 600"],
    "put back": ["-wn4", "--requeue", "--wrap=sleep 600"],
    "out of memory": ["-wn5", "--mem=10M", "--wrap=srun sh -c '{eater}'"],
    "could not start": ["-pbroken", "--no-requeue", "--wrap=true"],
    "hopeless": ["-pshort", "--time=9", "--wrap=true"],
    "held": ["--hold", "--wrap=true"],
    "part of an array": ["-wn5", "--array=4-5", "--wrap=exit 4"],
    "half of a pair": ["-wn4", ":", "-wn5", "--wrap=exit 5"],
    "hostile": ["-wn5", "-J", "a|b\n7|RUNNING\u00e9", "--comment=x\ny|z", "--wrap=exit 6"],
}
EATER = 'x=$(head -c 60000000 /dev/zero | tr "\\0" x); sleep 600'
TRAP = 'trap "exit 77" TERM; while :; do sleep 0.2; done'


class Release:
    """A cluster, the launcher's way of asking it, and its jobs' ids by what became of them."""

    def __init__(self, cluster: Slurm, bin_dir: Path | None) -> None:
        self.cluster = cluster
        self.ids: dict[str, str] = {}
        self.user = getpass.getuser()
        search = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        own = LocalTransport(self.user, {"PATH": search, "HOME": "/", **cluster.environment})
        self.backend = CommandLineSlurm(
            Programs(bin_dir, search, LocalMachine().find_program),
            own,
            query_timeout_s=30,
            submit_timeout_s=30,
        )

    def make_jobs(self) -> None:
        """Submit them, and do to them what their names say."""
        run = self.cluster.run
        for name, arguments in JOBS.items():
            words = [word.replace("{trap}", TRAP).replace("{eater}", EATER) for word in arguments]
            given = [
                "sbatch",
                "--parsable",
                "-o/dev/null",
                "--mem=100M",
                "--comment=shipway:1.1",
                *words,
            ]
            self.ids[name] = run(given).stdout.strip()
        running = ("timed out", "cancelled outside", "preempted", "preempted, left in time")
        for name in (*running, "node failed", "put back"):
            self.cluster.wait_for_job(self.ids[name], "RUNNING")
        run(["scontrol", "update", f"JobId={self.ids['timed out']}", "EndTime=now"])
        run(["scancel", self.ids["cancelled outside"]])
        run(["scontrol", "requeue", self.ids["put back"]])
        run(["scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test"])
        run(["sbatch", "-o/dev/null", "-purgent", "-wn1", "--exclusive", "--wrap=sleep 600"])


@contextmanager
def running_releases() -> Iterator[dict[str, Release]]:
    """Start every release that is to be had, all at once, and make its jobs."""
    with ExitStack() as stack, ThreadPoolExecutor(len(RELEASES)) as pool:
        started = {name: pool.submit(_start, stack, name) for name in RELEASES if not missing(name)}
        yield {name: starting.result() for name, starting in started.items()}


def missing(name: str) -> list[str]:
    """Return what a release lacks here."""
    own = slurm_lab.missing_programs()
    return own if name == OWN else own + slurm_releases.missing_programs(name)


def _start(stack: ExitStack, name: str) -> Release:
    folder = new_folder("slurm")
    prolog = folder / "prolog"
    prolog.write_text('#!/bin/sh\n[ "$SLURM_JOB_PARTITION" != broken ]\n')
    prolog.chmod(0o755)
    bin_dir = None if name == OWN else slurm_releases.release_folder(name) / "bin"
    cluster = Slurm(
        folder,
        nodes=5,
        grace_s=2,
        bin_dir=bin_dir,
        gatherer="linux",
        more_config=[
            "PartitionName=broken Nodes=n3",
            "PartitionName=short Nodes=ALL MaxTime=1",
            f"Prolog={prolog}",
            "PrologFlags=Alloc",
            "JobAcctGatherParams=OverMemoryKill",
            "JobAcctGatherFrequency=1",
        ],
    )
    stack.enter_context(cluster)
    release = Release(cluster, bin_dir)
    release.make_jobs()
    return release
