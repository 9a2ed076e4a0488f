"""How long it takes from `det experiment create` to the first line of the user's code.

The stock command sends an experiment of one trial, whose code prints the time. On an agent with the
sandbox it is compared with what the harness's own programs need to be loaded: the command, the one that
gets a container ready, and the one that starts the code, each run alone in the same run. On Slurm (a
real one) it is compared with that and a bare `sbatch` of the same code. The ways take turns.

Limits: on an agent 1.5 s above the harness, on Slurm 2 s above the harness and `sbatch`.

    python -m benchmarks.starts [--rounds 5] [--no-slurm]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import yaml
from tests.e2e.conftest import open_slurm_site
from tests.lab.det import Det, program
from tests.lab.folders import new_folder, remove_folder
from tests.lab.processes import wait_until
from tests.lab.shipway import PASSWORD
from tests.lab.slurm import Slurm

LIMITS_S = {"agent": 1.5, "slurm": 2.0}
_PYTHON = program().with_name("python")
_LOADED = ("determined.cli.cli", "determined.exec.prep_container", "determined.exec.launch")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-slurm", action="store_true")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = new_folder("starts")
        stack.callback(remove_folder, folder)
        slurm = Slurm(new_folder("slurm"))
        stack.enter_context(slurm)

        def make_det(**where: str) -> Det:
            home = folder / f"home-{where['user']}"
            home.mkdir(exist_ok=True)
            return Det(home, **where)

        site = open_slurm_site(stack, make_det, slurm, runtime="sandbox")
        det = make_det(master=site.master.url, user="determined", password=PASSWORD)
        ways: dict[str, Callable[[], float]] = {
            "harness": load_harness,
            "agent": lambda: start_trial(det, folder, pool="default"),
        }
        if not options.no_slurm:
            ways["sbatch"] = lambda: start_bare(slurm, folder)
            ways["slurm"] = lambda: start_trial(det, folder, pool="gpu")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                times[name].append(way())
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:8} {median:6.2f} s")
    for name, below in (("agent", ("harness",)), ("slurm", ("harness", "sbatch"))):
        if name in medians:
            above_s = medians[name] - sum(medians[one] for one in below)
            limit_s = LIMITS_S[name]
            print(
                f"{name}: {above_s:.2f} s above {' and '.join(below)}, "
                f"{above_s / limit_s:.2f} of the limit"
            )


def load_harness() -> float:
    """Load what the harness loads before the user's code, one program after the other."""
    began = time.perf_counter()
    for name in _LOADED:
        subprocess.run([_PYTHON, "-c", f"import {name}"], check=True)
    return time.perf_counter() - began


def start_trial(det: Det, folder: Path, *, pool: str) -> float:
    """Create an experiment and wait for the first line of its code; returns seconds."""
    mark = folder / "shared" / "mark"
    mark.parent.mkdir(exist_ok=True)
    mark.unlink(missing_ok=True)
    config = {
        "name": "a start",
        "entrypoint": f'python -c \'import time; open("{mark}", "w").write(str(time.time()))\'',
        "searcher": {"name": "single", "metric": "val"},
        "hyperparameters": {},
        "max_restarts": 0,
        "resources": {"resource_pool": pool, "slots_per_trial": 1},
        "bind_mounts": [{"host_path": str(mark.parent), "container_path": str(mark.parent)}],
        "checkpoint_storage": {"type": "shared_fs", "host_path": str(mark.parent)},
        "environment": {
            "environment_variables": [
                f"DET_PYTHON_EXECUTABLE={_PYTHON}",
                f"PATH={_PYTHON.parent}:{os.environ['PATH']}",
            ]
        },
    }
    file = folder / "start.yaml"
    file.write_text(yaml.safe_dump(config))
    began = time.time()
    det.run("experiment", "create", str(file))
    return read_mark(mark) - began


def start_bare(slurm: Slurm, folder: Path) -> float:
    """Submit the same code to Slurm; returns seconds."""
    mark = folder / "bare"
    mark.unlink(missing_ok=True)
    code = f'import time; open("{mark}", "w").write(str(time.time()))'
    began = time.time()
    slurm.run(
        ["sbatch", "-p", "gpu", "-o", "/dev/null", "--wrap", f"{_PYTHON} -c '{code}'"],
    )
    return read_mark(mark) - began


def read_mark(mark: Path) -> float:
    """Wait for the moment that the code has written, in seconds since 1970."""
    wait_until(lambda: mark.exists() and mark.read_text(), f"{mark}", limit_s=60, interval_s=0.02)
    return float(mark.read_text())


if __name__ == "__main__":
    main()
