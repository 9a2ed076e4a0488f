"""Jobs of a real Slurm when something on their way dies by SIGKILL: each end is told truly, once."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab import slurm as slurm_lab
from tests.lab.folders import new_folder
from tests.lab.processes import pid_in, wait_until
from tests.lab.require import require
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster, Job
from tests.launcher.killing import kill, processes, running_launcher
from tests.launcher.manifests import make_manifest


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A Slurm of this module's own, because its daemons are killed."""
    require("Slurm", slurm_lab.missing_programs())
    with Slurm(new_folder("slurm"), nodes=1, grace_s=4) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def launcher(slurm: Slurm) -> Iterator[Launcher]:
    """A launcher that looks often, and soon calls a job missing which nobody knows."""
    with running_launcher(slurm, interval_s=0.5, missing_after_s=2, kill_after_s=3) as daemon:
        yield daemon


@pytest.fixture
def launch(master: GoMaster, new_id: Callable[[], str]) -> Callable[[], Job]:
    """Launch a job that ends when it is told to, and wait until its task runs."""

    def start() -> Job:
        words = "trap 'exit 77' TERM; echo ready; while :; do sleep 0.1; done"
        job = master.launch(make_manifest(["/bin/sh", "-c", words]), new_id())
        master.wait(job, "RUNNING")
        wait_until(lambda: master.log(job, "output.log") == b"ready\n", "it runs", limit_s=60)
        return job

    return start


def test_a_batch_shell_killed(launch: Callable[[], Job], master: GoMaster) -> None:
    job = launch()
    for pid in processes(job, "slurm_script"):
        kill(pid)
    assert master.wait(job) == "FAILED"
    assert "in response to receiving Signal 9" in job.task_log[-1]
    wait_until(lambda: not processes(job, "while :"), "the task's end", limit_s=60)


def test_a_launcher_killed_while_a_cancel_is_under_way(
    launch: Callable[[], Job],
    master: GoMaster,
    launcher: Launcher,
    slurm: Slurm,
    storage: Path,
) -> None:
    job = launch()
    pid = pid_in(slurm.folder / "run/slurmctld.pid")
    assert pid is not None
    record = storage / "dispatches" / job.dispatch_id / "record.json"
    os.kill(pid, signal.SIGSTOP)  # so that scancel has no answer yet
    try:
        with ThreadPoolExecutor(1) as pool:
            killing = pool.submit(master.kill, job)
            wait_until(lambda: _is_to_end(record), "the cancel is noted", limit_s=60)
            launcher.kill()
            assert killing.exception(60) is not None, "it was answered too early"
    finally:
        os.kill(pid, signal.SIGCONT)
    launcher.start()
    assert master.wait(job) == "TERMINATED"


def test_a_launcher_killed_while_a_job_is_preempted(
    launch: Callable[[], Job], master: GoMaster, launcher: Launcher, slurm: Slurm
) -> None:
    job = launch()
    wrapped = ["-N1", "--exclusive", "-o/dev/null", "--wrap=sleep 600"]
    urgent = slurm.run(["sbatch", "--parsable", "-purgent", *wrapped]).stdout.strip()
    launcher.kill()
    launcher.start()
    assert master.wait(job) == "FAILED"
    assert "'Preempted'" in job.task_log[-1]
    slurm.run(["scancel", urgent])
    slurm.wait_idle()


def test_a_controller_killed_before_it_has_saved_a_job(
    launch: Callable[[], Job], master: GoMaster, slurm: Slurm
) -> None:
    """Slurm ends such a job when the node tells of it, and knows no end of it.

    The last test here: Slurm gives the id out again, and the node refuses the next job of that id.
    """
    state, saved = slurm.folder / "state", slurm.folder / "saved"
    slurm.wait_idle()
    slurm.stop_controller()
    shutil.copytree(state, saved)
    slurm.restart_controller()
    slurm.wait_idle()
    job = launch()
    kill(pid_in(slurm.folder / "run/slurmctld.pid"))
    shutil.rmtree(state)
    saved.rename(state)
    slurm.restart_controller()
    assert master.wait(job) == "MISSING"
    wait_until(lambda: not processes(job, "while :"), "the task's end", limit_s=60)


def _is_to_end(record: Path) -> bool:
    return json.loads(record.read_text())["terminate_requested_at"] is not None
