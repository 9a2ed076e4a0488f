"""What the launcher's way to Slurm adds to a submission, against the bare command.

A real Slurm; all jobs are on hold. "sbatch" is a loop of a shell that runs sbatch, and with several at
once `xargs -P`; "command line" is the launcher's backend; "pyslurm" is the backend on pyslurm, where the
Python that is named has one for this Slurm. The ways take turns, so that a busy machine meets all of them;
the ratios are of the medians. What goes before and after a submission (records, files of the job, the
REST API) and what SSH adds is in ssh.py.

Limits: one after another, "command line" 1.15 times "sbatch" and "pyslurm" a third of it; 8 at once, the
launcher reaches 0.9 of the jobs per second that the bare commands reach.

    python -m benchmarks.submit [--jobs 300] [--at-once 8] [--pyslurm-python PYTHON]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from tests.lab.folders import new_folder
from tests.lab.slurm import Slurm

from shipway_launcher.backends import close_backend, make_slurm
from shipway_launcher.batch.script import render_directive
from shipway_launcher.batch.useroptions import Option
from shipway_launcher.config import load_settings
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.slurm.pyslurm.backend import PyslurmSlurm
from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.users import Users

BLOCK = 8
LIMITS = {"command line": 1.15, "pyslurm": 1 / 3}
LEAST_AT_ONCE = 0.9

Submit = Callable[[int], Awaitable[None]]
"""Submits so many jobs."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--jobs", type=int, default=300, help="of each way, and each once more at once"
    )
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--pyslurm-python", default=sys.executable)
    options = parser.parse_args()
    slurm = Slurm(new_folder("slurm"), nodes=1, more_config=["MaxJobCount=100000"])
    with slurm, tempfile.TemporaryDirectory() as folder:
        asyncio.run(
            measure(slurm, Path(folder), options.jobs, options.at_once, options.pyslurm_python)
        )


async def measure(slurm: Slurm, folder: Path, jobs: int, at_once: int, python: str) -> None:
    """Time all ways, one job after another and several at once."""
    script = write_script(folder)
    environment = {"PATH": os.environ["PATH"], **slurm.environment}
    backends: dict[str, SlurmBackend] = {}
    for name, backend in (("command line", "cli"), ("pyslurm", "pyslurm")):
        text = json.dumps({"slurm": {"backend": backend, "pyslurm_python": python}})
        settings = load_settings(file_text=text, environment=environment)
        own = Users(settings).own
        backends[name] = make_slurm(settings, Users(settings))
        await backends[name].submit(script, user=own)
    assert isinstance(own, LocalTransport)
    variables = own.environment
    by_pyslurm = backends["pyslurm"]
    if not isinstance(by_pyslurm, PyslurmSlurm) or not by_pyslurm.is_used:
        print("pyslurm: none for this Slurm in", python)
        await close_backend(backends.pop("pyslurm"))
    try:
        ways: dict[str, Submit] = {"sbatch": bare(script, variables)}
        ways |= {name: one_by_one(backend, script, own) for name, backend in backends.items()}
        show("one after another", await in_turns(ways, jobs), LIMITS)
        ways = {"sbatch": bare(script, variables, at_once)}
        ways |= {name: several(backend, script, own, at_once) for name, backend in backends.items()}
        least = dict.fromkeys(LIMITS, 1 / LEAST_AT_ONCE)
        show(f"{at_once} at once", await in_turns(ways, jobs), least)
    finally:
        for backend in backends.values():
            await close_backend(backend)


async def in_turns(ways: Mapping[str, Submit], jobs: int) -> dict[str, float]:
    """Return the median time per job of each way, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(max(1, jobs // BLOCK)):
        turns = list(ways.items())
        random.shuffle(turns)  # whoever comes behind another meets what that has left to do
        for name, submit in turns:
            began = time.perf_counter()
            await submit(BLOCK)
            times[name].append((time.perf_counter() - began) / BLOCK)
    return {name: statistics.median(found) for name, found in times.items()}


def bare(script: Path, environment: Mapping[str, str], at_once: int = 1) -> Submit:
    """Run sbatch as a shell does."""
    one = f"sbatch --parsable {script} >/dev/null"
    loop = f"i=0; while [ $i -lt {BLOCK} ]; do {one}; i=$((i+1)); done"
    several = f"seq {BLOCK} | xargs -P {at_once} -I X sbatch --parsable {script} >/dev/null"

    async def submit(_: int) -> None:
        argv = ["/bin/sh", "-c", loop if at_once == 1 else several]
        subprocess.run(argv, env=environment, cwd="/", check=True)  # noqa: ASYNC221 (nothing else runs)

    return submit


def one_by_one(backend: SlurmBackend, script: Path, user: Transport) -> Submit:
    """Submit one job after another."""

    async def submit(count: int) -> None:
        for _ in range(count):
            await backend.submit(script, user=user)

    return submit


def several(backend: SlurmBackend, script: Path, user: Transport, at_once: int) -> Submit:
    """Submit several jobs at once."""

    async def submit(count: int) -> None:
        numbers = iter(range(count))

        async def work() -> None:
            for _ in numbers:
                await backend.submit(script, user=user)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())

    return submit


def write_script(folder: Path) -> Path:
    """Write a batch script such as the launcher's."""
    options = {
        "job-name": "det-ai_cmd-bench.1",
        "comment": "shipway:bench.1",
        "nodes": "1",
        "ntasks": "1",
        "gpus": "1",
        "chdir": "/tmp",
        "output": "/dev/null",
        "error": "/dev/null",
        "propagate": "NONE",
        "open-mode": "append",
        "no-requeue": None,
        "hold": None,
    }
    lines = [f"#SBATCH {render_directive(Option(name=n, value=v))}" for n, v in options.items()]
    path = folder / "job.sh"
    path.write_text("\n".join(["#!/bin/bash", *lines, *["echo a line of work"] * 60, ""]))
    return path


def show(title: str, medians_s: Mapping[str, float], most: Mapping[str, float]) -> None:
    """Print times and how they compare to the bare command's."""
    print(title)
    for name, median_s in medians_s.items():
        ratio = median_s / medians_s["sbatch"]
        verdict = ""
        if name in most:
            verdict = f"  limit {most[name]:.2f}: {'ok' if ratio <= most[name] else 'MISSED'}"
        print(f"  {name:13} {median_s * 1e3:7.2f} ms a job  ratio {ratio:.2f}{verdict}")


if __name__ == "__main__":
    main()
