"""What a job costs more when the launcher reaches its cluster by SSH.

A real sshd and a real Slurm on loopback; all jobs are on hold. "bare" is `sbatch` of a script that is
there already, run over one asyncssh connection, a session for each. "command" is the same `sbatch`
over the launcher's link; "job" is the launcher's own submission by its REST API: manifest, record on
disk, the job's files moved, sbatch, record. "local" is that without SSH. The three are taken in turns.

Limit for "job": 30 ms more than "bare".

    python -m benchmarks.ssh [--jobs 40] [--at-once 8]
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import shlex
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
from tests.lab.folders import new_folder, remove_folder
from tests.lab.processes import free_ports
from tests.lab.slurm import Slurm
from tests.lab.sshd import Sshd
from tests.launcher.manifests import make_manifest

from shipway_launcher.client import LauncherClient
from shipway_launcher.config import LauncherSettings, load_settings
from shipway_launcher.daemon import run_launcher
from shipway_launcher.machines import open_machine
from shipway_launcher.transport.base import Command

LIMIT_MS = 30.0
MANIFEST = json.dumps(make_manifest(["/bin/true"], slurm_arguments=["--hold", "--mem=50"])).encode()

Act = Callable[[], Awaitable[object]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=8)
    options = parser.parse_args()
    folder = new_folder("bench")
    slurm = Slurm(new_folder("slurm"), nodes=1)
    with slurm:
        there = {"SetEnv": f"SLURM_CONF={slurm.environment['SLURM_CONF']}"}
        with Sshd(new_folder("sshd"), there) as sshd:
            asyncio.run(measure(folder, slurm, sshd, options.jobs, options.at_once))
    remove_folder(folder)


async def measure(folder: Path, slurm: Slurm, sshd: Sshd, jobs: int, at_once: int) -> None:
    """Time each way in turns, one job after another and several at once."""
    script = folder / "job.sh"
    script.write_text("#!/bin/sh\n#SBATCH --hold --mem=50 -o /dev/null\ntrue\n")
    argv = ("sbatch", "--parsable", str(script))
    far = settings_over_ssh(folder / "far", sshd)
    here = settings_here(folder / "here", slurm.environment)
    async with (
        connect(sshd) as connection,
        open_machine(far) as machine,
        launching(far) as over_ssh,
        launching(here) as local,
    ):
        link = machine.transport(lambda login: {"PATH": login.path, "SLURM_CONF": conf(slurm)})
        acts: dict[str, Act] = {
            "bare": lambda: connection.run(shlex.join(argv), check=True),
            "command": lambda: link.run(Command(argv=argv, timeout_s=60)),
            "job": lambda: over_ssh.launch(MANIFEST),
            "local": lambda: local.launch(MANIFEST),
        }
        for act in acts.values():  # versions, partitions and the like are asked for once
            await act()
        show("one after another", await in_turns(acts, jobs))
        show(f"{at_once} at once", await in_turns(acts, jobs, at_once=at_once))


async def in_turns(acts: Mapping[str, Act], jobs: int, *, at_once: int = 1) -> dict[str, float]:
    """Return the median time per job of each way, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(jobs // at_once):
        for name, act in acts.items():
            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(_do(act))
            times[name].append((time.perf_counter() - began) / at_once)
    return {name: statistics.median(found) for name, found in times.items()}


async def _do(act: Act) -> None:
    await act()


def show(title: str, medians_s: Mapping[str, float]) -> None:
    """Print times, and how far they are from a bare command."""
    print(title)
    bare_ms = medians_s["bare"] * 1e3
    for name, median_s in medians_s.items():
        ms = median_s * 1e3
        more = ms - bare_ms
        verdict = ""
        if name == "job":
            verdict = f"  limit {LIMIT_MS:g} ms more: {'ok' if more <= LIMIT_MS else 'MISSED'}"
        print(f"  {name:8} {ms:7.1f} ms  {more:+7.1f} ms  ratio {ms / bare_ms:.2f}{verdict}")


@asynccontextmanager
async def connect(sshd: Sshd) -> AsyncGenerator[asyncssh.SSHClientConnection]:
    """Give one connection, as anybody would make it."""
    async with asyncssh.connect(
        "127.0.0.1",
        sshd.port,
        username=sshd.user,
        client_keys=[str(sshd.client_key)],
        known_hosts=str(sshd.known_hosts),
        config=None,
    ) as connection:
        yield connection


@asynccontextmanager
async def launching(settings: LauncherSettings) -> AsyncGenerator[LauncherClient]:
    """Run a launcher and give a client of it."""
    async with (
        run_launcher(settings) as serving,
        LauncherClient(serving.url, serving.token) as client,
    ):
        yield client


def settings_over_ssh(folder: Path, sshd: Sshd) -> LauncherSettings:
    """Return the settings of a launcher that goes through *sshd*."""
    more = {"ssh": sshd.settings, "state_dir": str(folder / "records")}
    return load_settings(flags={**_common(folder), **more})


def settings_here(folder: Path, environment: Mapping[str, str]) -> LauncherSettings:
    """Return the settings of a launcher on the login node."""
    environment = {"PATH": os.environ["PATH"], **environment}
    return load_settings(flags=_common(folder), environment=environment)


def _common(folder: Path) -> dict[str, Any]:
    (port,) = free_ports(1)
    return {
        "port": port,
        "job_storage_root": str(folder / "storage"),
        "user_name": getpass.getuser(),
        "agent_command": ["shipway-agent"],
        "relay": {"enabled": False},
    }


def conf(slurm: Slurm) -> str:
    """Return where Slurm's configuration is."""
    return slurm.environment["SLURM_CONF"]


if __name__ == "__main__":
    main()
