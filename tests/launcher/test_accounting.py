"""What becomes of jobs that Slurm has forgotten, by the word of a real accounting database."""

from __future__ import annotations

import getpass
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import slurmdbd as slurmdbd_lab
from tests.lab.folders import new_folder
from tests.lab.processes import wait_until
from tests.lab.require import require
from tests.lab.shipway import Launcher
from tests.lab.slurmdbd import AccountedSlurm
from tests.launcher.go_master import GoMaster
from tests.launcher.manifests import make_manifest

_KEPT = "accounting does not answer; unknown jobs are kept"


@pytest.fixture(scope="module")
def cluster() -> Iterator[AccountedSlurm]:
    """A cluster with accounting that forgets ended jobs within seconds."""
    require("Slurm with accounting", slurmdbd_lab.missing_programs())
    slurm = AccountedSlurm(new_folder("slurm"), nodes=1, more_config=["MinJobAge=2"])
    with slurm:
        yield slurm


@pytest.fixture
def site(cluster: AccountedSlurm) -> Iterator[Launcher]:
    """A launcher in front of it that soon calls a job missing which nobody knows."""
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=cluster.environment,
        config={"watch": {"interval_s": 0.5, "missing_after_s": 1}},
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        shutil.rmtree(folder)


def test_accounting_decides_about_forgotten_jobs_and_is_waited_for(
    cluster: AccountedSlurm, site: Launcher
) -> None:
    master = GoMaster(site.url, site.token_file)
    failing = master.launch(make_manifest(["/bin/sh", "-c", "exit 3"]), "failing.1")
    cancelled = master.launch(make_manifest(["/bin/sleep", "600"]), "cancelled.1")
    master.wait(cancelled, "RUNNING")
    cluster.run(["scancel", cancelled.job_id or ""])
    for job in (failing, cancelled):
        assert master.wait(job) == "FAILED"
    site.stop()
    forget_ends(site.config.parent / "launcher")
    wait_until(lambda: not cluster.job_states(), "Slurm forgets its jobs", limit_s=60)
    cluster.stop_slurmdbd()
    site.start()
    wait_until(lambda: _KEPT in site.log.read_text(), "accounting is asked", limit_s=60)
    for _ in range(3):  # each answer comes from a round of its own
        assert master.status(failing)["state"] == "RUNNING"
    site.stop()
    cluster.start_slurmdbd()
    site.start()
    assert master.wait(failing) == "FAILED"
    assert "'NonZeroExitCode':\n  Job Exited with Exit Code 3\n" in failing.task_log[-1]
    assert master.wait(cancelled) == "FAILED"
    assert "'Cancelled':\n  The job was cancelled, but not by" in cancelled.task_log[-1]


def forget_ends(storage: Path) -> None:
    """Leave records as of a launcher that went away before the jobs ended, and no exit files."""
    for record in storage.glob("dispatches/*/record.json"):
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, "state": "RUNNING", "events": []}))
    for left in storage.glob("jobs/environments/*/*/exit"):
        left.unlink()
