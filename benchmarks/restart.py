"""A launcher that is killed while it has many live dispatches, and started again.

A private Slurm holds the jobs back; the launcher has launched them all by its API. "empty" is the time
from the start of a launcher without any dispatch until it answers; "restart" the same with all of
them, until it lists them; "looked" until the state of one has been asked of Slurm again. Limit: 3 s
until all are listed, and none lost: each still has its job.

    python -m benchmarks.restart [--dispatches 1000]
"""

from __future__ import annotations

import argparse
import getpass
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.lab.folders import new_folder
from tests.lab.shipway import Daemon, Launcher
from tests.lab.slurm import Slurm
from tests.launcher.manifests import make_manifest

ME = getpass.getuser()
LIMIT_S = 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dispatches", type=int, default=1000)
    count = parser.parse_args().dispatches
    with (
        Slurm(new_folder("slurm"), nodes=1, more_config=["MaxJobCount=50000"]) as cluster,
        tempfile.TemporaryDirectory() as folder,
    ):
        launcher = Launcher(
            Path(folder),
            master_url="http://127.0.0.1:9",
            user=ME,
            environment=cluster.environment,
        )
        try:
            measure(launcher, count)
        finally:
            launcher.stop()


def measure(launcher: Launcher, count: int) -> None:
    """Fill the launcher, and kill and start it."""
    launcher.start()  # makes the token
    launcher.kill()
    empty_s = start(launcher, 0)
    print(f"{'empty':10} {empty_s:8.2f} s")
    before = launch(launcher, count)
    launcher.kill()
    restart_s = start(launcher, count)
    after = jobs(launcher)
    verdict = "ok" if restart_s < LIMIT_S and after == before else "MISSED"
    print(
        f"{'restart':10} {restart_s:8.2f} s  ratio {restart_s / empty_s:.2f}, {count} dispatches,",
        end="",
    )
    print(f" {len(before.items() - after.items())} lost, limit {LIMIT_S:g} s: {verdict}")
    began = time.perf_counter()
    path = f"/monitoring/{ME}/environments/{next(iter(before))}/status?refresh=true"
    status, info = launcher.api().send("GET", path)
    assert (status, info["state"]) == (200, "PENDING"), info
    print(f"{'looked':10} {time.perf_counter() - began + restart_s:8.2f} s")


def launch(launcher: Launcher, count: int) -> dict[str, str]:
    """Launch jobs that Slurm holds back; returns the job of each dispatch."""
    manifest = make_manifest(slurm_arguments=["--hold"])

    def one(number: int) -> None:
        path = f"/launch?dispatchId=held-{number}"
        headers = {"Content-Type": "application/json"}
        status, answer = launcher.api().send("PUT", path, manifest, headers=headers, limit_s=120)
        assert status < 300, answer

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count)))
    return jobs(launcher)


def jobs(launcher: Launcher) -> dict[str, str]:
    """Return the job of each dispatch that runs."""
    status, answer = launcher.api().send("GET", "/running")
    assert status == 200, answer
    found: list[dict[str, Any]] = answer["data"]
    return {one["dispatchId"]: one["additionalProperties"]["job-id"] for one in found}


def start(launcher: Launcher, count: int) -> float:
    """Start the launcher; returns the time until it lists its dispatches, in seconds."""
    api = launcher.api()
    began = time.perf_counter()
    Daemon.start(launcher)
    while True:
        try:
            status, answer = api.send("GET", "/running")
        except OSError:  # it does not listen yet
            time.sleep(0.01)
            continue
        assert status == 200, answer
        took_s = time.perf_counter() - began
        assert len(answer["data"]) == count, f"{len(answer['data'])} of {count}"
        return took_s


if __name__ == "__main__":
    main()
