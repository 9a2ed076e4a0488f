"""What happens to launches and jobs when Slurm's controller does not answer, or answers late."""

from __future__ import annotations

import getpass
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab import slurm as slurm_lab
from tests.lab.folders import new_folder
from tests.lab.processes import pid_in, wait_until
from tests.lab.require import require
from tests.lab.shipway import Launcher, frozen
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster, Refused
from tests.launcher.killing import wait_until_asked
from tests.launcher.manifests import make_manifest


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A Slurm of this module's own, because its controller is stopped and frozen."""
    require("Slurm", slurm_lab.missing_programs())
    config = ["MessageTimeout=3"]
    with Slurm(new_folder("slurm"), nodes=2, more_config=config) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def launcher(slurm: Slurm) -> Iterator[Launcher]:
    """A launcher that is impatient, so that the tests need not be patient."""
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={
            "watch": {"interval_s": 0.5, "missing_after_s": 3},
            "slurm": {"query_timeout_s": 4, "submit_timeout_s": 4, "settle_s": 3},
        },
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder)


def controller_pid(slurm: Slurm) -> int:
    pid = pid_in(slurm.folder / "run/slurmctld.pid")
    assert pid is not None
    return pid


def jobs_named(slurm: Slurm, dispatch_id: str) -> list[str]:
    done = slurm.run(["squeue", "-h", "-t", "all", "-o", "%i %j"])
    return [line.split()[0] for line in done.stdout.splitlines() if line.endswith(dispatch_id)]


def test_a_submission_without_an_answer_makes_one_job(
    master: GoMaster, slurm: Slurm, new_id: Callable[[], str]
) -> None:
    """The controller takes the job but is too late for sbatch: the launcher looks for it."""
    name = new_id()
    with ThreadPoolExecutor() as pool:
        with frozen(controller_pid(slurm)):
            launch = pool.submit(master.launch, make_manifest(["/bin/sleep", "60"]), name)
            time.sleep(4.5)  # longer than sbatch's own patience: its answer is lost
            assert not launch.done()
        job = launch.result(timeout=60)
    assert master.wait(job, "RUNNING") == "RUNNING"
    assert jobs_named(slurm, name) == [job.job_id]
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_a_launch_is_answered_though_slurm_stays_silent_and_the_job_is_found_later(
    master: GoMaster, slurm: Slurm, new_id: Callable[[], str]
) -> None:
    name = new_id()
    with frozen(controller_pid(slurm)):
        job = master.launch(make_manifest(["/bin/sleep", "60"]), name)
        info = master.status(job)
        assert info["state"] == "PENDING"
        assert "job-id" not in info["additionalProperties"]
    assert master.wait(job, "RUNNING") == "RUNNING"
    assert jobs_named(slurm, name) == [job.job_id]
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_a_launcher_killed_while_submitting_finds_the_job(
    master: GoMaster, launcher: Launcher, slurm: Slurm, new_id: Callable[[], str]
) -> None:
    name = new_id()
    with ThreadPoolExecutor() as pool:
        with frozen(controller_pid(slurm)):
            launch = pool.submit(master.launch, make_manifest(["/bin/sleep", "60"]), name)
            record = launcher.config.parent / "launcher/dispatches" / name / "record.json"
            wait_until(
                lambda: record.exists() and '"submitting"' in record.read_text(),
                "the intent is on disk",
                limit_s=60,
            )
            wait_until_asked(slurm, "sbatch")
            launcher.kill()
        with pytest.raises((OSError, AssertionError)):
            launch.result(timeout=60)
    launcher.start()
    job = master.adopt(name)
    assert master.wait(job, "RUNNING") == "RUNNING"
    assert jobs_named(slurm, name) == [job.job_id]
    master.kill(job)
    assert master.wait(job) == "TERMINATED"


def test_a_kill_before_the_job_has_an_id_is_not_forgotten(
    master: GoMaster, launcher: Launcher, slurm: Slurm, new_id: Callable[[], str]
) -> None:
    name = new_id()
    record = launcher.config.parent / "launcher/dispatches" / name / "record.json"
    with ThreadPoolExecutor() as pool:
        with frozen(controller_pid(slurm)):
            launch = pool.submit(master.launch, make_manifest(["/bin/sleep", "60"]), name)
            wait_until(
                lambda: record.exists() and '"submitting"' in record.read_text(),
                "the submission is under way",
                limit_s=60,
            )
            job = master.adopt(name)
            master.kill(job)
        launch.result(timeout=60)
    assert master.wait(job) == "TERMINATED"
    assert [slurm.job_states()[found] for found in jobs_named(slurm, name)] == ["CANCELLED"]


def test_with_the_controller_down_a_launch_fails_quickly_and_clearly_and_jobs_keep_their_state(
    master: GoMaster, slurm: Slurm, new_id: Callable[[], str]
) -> None:
    running = master.launch(make_manifest(["/bin/sleep", "60"]), new_id())
    master.wait(running, "RUNNING")
    slurm.stop_controller()
    try:
        with pytest.raises(Refused) as refusal:
            master.launch(make_manifest(), new_id())
        assert refusal.value.status == 500
        assert "controller does not answer" in refusal.value.task_log_text
        assert "Batch job submission failed" not in refusal.value.task_log_text
        assert master.status(running)["state"] == "RUNNING"
        with pytest.raises(Refused) as refusal:
            master.query("Resources")
        assert "Unable to contact slurm controller" in refusal.value.task_log_text
        with pytest.raises(Refused):
            master.kill(running)
        assert master.status(running)["state"] == "TERMINATING"
    finally:
        slurm.restart_controller()
    assert master.wait(running) == "TERMINATED", "the kill is not forgotten"


def test_a_forgetful_controller_makes_a_job_missing_not_failed(
    master: GoMaster, slurm: Slurm, new_id: Callable[[], str]
) -> None:
    slurm.wait_idle()
    job = master.launch(make_manifest(slurm_arguments=["--hold"]), new_id())
    assert master.wait(job, "PENDING") == "PENDING"
    slurm.stop_controller()
    slurm.start_controller(is_clean=True)
    assert master.wait(job) == "MISSING"
