"""Jobs of a real Slurm when something on their way dies by SIGKILL: each end is told truly, once."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab import slurm as slurm_lab
from tests.lab.folders import new_folder
from tests.lab.processes import is_alive, pid_in, wait_until
from tests.lab.require import require
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster, Job
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
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={"watch": {"interval_s": 0.5, "missing_after_s": 2, "kill_after_s": 3}},
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What the jobs below wait for."""
    return tmp_path / "gate"


@pytest.fixture
def launch(master: GoMaster, new_id: Callable[[], str], gate: Path) -> Callable[[], Job]:
    """Launch a job that waits for the gate and then ends with 5, and wait until it does wait."""

    def start() -> Job:
        words = f"trap 'exit 77' TERM; echo ready; until [ -e {gate} ]; do sleep 0.1; done; exit 5"
        folder = str(gate.parent)
        data = [{"name": "gate", "source": folder, "target": folder, "readOnly": True}]
        manifest = make_manifest(["/bin/sh", "-c", words], data=data)
        job = master.launch(manifest, new_id())
        master.wait(job, "RUNNING")
        wait_until(lambda: master.log(job, "output.log") == b"ready\n", "it runs", limit_s=30)
        return job

    return start


def test_a_controller_killed_while_a_job_ends(
    launch: Callable[[], Job], master: GoMaster, slurm: Slurm, gate: Path
) -> None:
    job = launch()
    changed_at = time.time()
    slurm.run(["scontrol", "update", f"JobId={job.job_id}", "Nice=1"])
    # Every few seconds; what the controller has not saved it does not know when it comes back.
    saved = slurm.folder / "state/job_state"
    wait_until(lambda: saved.stat().st_mtime >= changed_at, "the state is saved", limit_s=30)
    kill(pid_in(slurm.folder / "run/slurmctld.pid"))
    try:
        gate.touch()
        wait_until(lambda: not processes(job, "until ["), "the task's end", limit_s=30)
        assert master.status(job)["state"] == "RUNNING", "nobody can know"
    finally:
        slurm.restart_controller()
    assert master.wait(job) == "FAILED"
    assert "Job Exited with Exit Code 5\n" in job.task_log[-1]


def test_a_node_daemon_killed_while_a_job_ends(
    launch: Callable[[], Job], master: GoMaster, slurm: Slurm, gate: Path
) -> None:
    job = launch()
    kill(pid_in(slurm.folder / "run/slurmd-n1.pid"))
    slurm.start_node("n1")
    gate.touch()
    assert master.wait(job) == "FAILED"
    assert "Job Exited with Exit Code 5\n" in job.task_log[-1]


def test_a_jobs_agent_killed(launch: Callable[[], Job], master: GoMaster) -> None:
    job = launch()
    for pid in processes(job, "shipway-agent\0job\0"):
        kill(pid)
    assert master.wait(job) == "FAILED"
    assert "SIGKILL" in job.task_log[-1]
    wait_until(lambda: not processes(job, "until ["), "the task's end", limit_s=30)


def test_a_batch_shell_killed(launch: Callable[[], Job], master: GoMaster) -> None:
    job = launch()
    for pid in processes(job, "slurm_script"):
        kill(pid)
    assert master.wait(job) == "FAILED"
    assert "in response to receiving Signal 9" in job.task_log[-1]
    wait_until(lambda: not processes(job, "until ["), "the task's end", limit_s=30)


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
            wait_until(lambda: _is_to_end(record), "the cancel is noted", limit_s=20)
            launcher.kill()
            assert killing.exception(10) is not None, "it was answered too early"
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
    slurm.wait_idle(limit_s=30)


def _is_to_end(record: Path) -> bool:
    return json.loads(record.read_text())["terminate_requested_at"] is not None


def kill(pid: int | None) -> None:
    """End a process at once, and wait until it is gone."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "it is gone", limit_s=10)


def processes(job: Job, word: str) -> list[int]:
    """Find the processes of a job with *word* in their arguments."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
            arguments = (folder / "cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        if f"SLURM_JOB_ID={job.job_id}".encode() in variables and word.encode() in arguments:
            found.append(int(folder.name))
    return found
