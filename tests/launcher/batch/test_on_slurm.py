"""Scripts on a real Slurm: each row of the contract's table, a cancel, a site's own lines."""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.lab.folders import new_folder
from tests.lab.processes import wait_until
from tests.lab.shipway import Launcher
from tests.lab.slurm import Slurm
from tests.launcher.go_master import GoMaster
from tests.launcher.manifests import make_manifest

SHOW = 'echo "$SLURM_PROCID/$SLURM_NPROCS gpus ${CUDA_VISIBLE_DEVICES:-none} cpus $(nproc)"'

ROWS = {
    "cpu": ({"instances": {"nodes": 1}, "cores": {"per-node": 1}}, [0]),
    "cpus-nodes": ({"instances": {"nodes": 3}, "cores": {"per-node": 1}}, [0, 0, 0]),
    "cpus-parts": ({"instances": {"nodes": 2}, "cores": {"per-node": 4, "per-instance": 4}}, [0] * 2),
    "tres": ({"instances": {"per-node": 1}, "gpus": {"total": 8}}, [4, 4]),
    "tres-one-node": ({"instances": {"per-node": 1}, "gpus": {"total": 3}}, [3]),
    "tres-parts": ({"instances": {"per-node": 1}, "gpus": {"total": 4, "per-instance": 2}}, [2, 2]),
    "tres-odd": ({"instances": {"per-node": 1}, "gpus": {"total": 5, "per-instance": 2}}, [2] * 3),
    "gres-parts": ({"instances": {"nodes": 2}, "gpus": {"per-node": 2}}, [2, 2]),
    "no-gres": ({"instances": {"nodes": 2}}, [0, 0]),
    "command": ({"instances": {"nodes": 1}, "gpus": {"total": 4}}, [4]),
    "command-parts": ({"instances": {"nodes": 1}, "gpus": {"total": 4, "per-instance": 2}}, [4]),
}  # fmt: skip


@pytest.fixture(scope="module")
def launcher(slurm: Slurm) -> Iterator[Launcher]:
    """A launcher of a site that has its own lines."""
    folder = new_folder("launcher")
    daemon = Launcher(
        folder,
        master_url="http://127.0.0.1:9",
        user=getpass.getuser(),
        environment=slurm.environment,
        config={
            "watch": {"interval_s": 0.5, "missing_after_s": 2, "kill_after_s": 30},
            "batch": {
                "options": ["--mem=20", "--comment=of the site"],
                "before": "echo before {{ payload }} $SLURM_JOB_ID",
                "after": "echo after $status",
            },
        },
    )
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        slurm.clear()
        shutil.rmtree(folder)


def make_job(
    words: list[str], resources: Mapping[str, Mapping[str, float]] | None = None, kind: str = "cuda"
) -> dict[str, object]:
    return make_manifest(
        words,
        slurm_arguments=None,
        payload="it's",
        environment={"DET_SLOT_TYPE": kind, "DET_TASK_TYPE": "TRIAL", "SHIPWAY_ON_TERM": "report"},
        resources=resources,
    )


def test_each_row_of_the_table_runs_with_what_it_says(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    jobs = {
        name: master.launch(make_job(["/bin/sh", "-c", SHOW], resources), new_id())
        for name, (resources, _) in ROWS.items()
    }
    for name, (_, gpus) in ROWS.items():
        assert master.wait(jobs[name], limit_s=90) == "COMPLETED", (name, jobs[name].task_log)
        lines = master.log(jobs[name], "output.log").decode().splitlines()
        shown = sorted(line.split() for line in lines if " gpus " in line)
        assert [words[0] for words in shown] == [f"{n}/{len(gpus)}" for n in range(len(gpus))], name
        counts = [0 if words[2] == "none" else len(words[2].split(",")) for words in shown]
        assert counts == gpus, name
        assert lines[0].startswith("before it's "), name
        assert lines[-1] == "after 0", name
    log = master.log(jobs["tres-odd"], "error.log").decode()
    assert "5 GPUs cannot be shared out in parts of 2" in log


def test_a_trial_with_unequal_nodes_does_not_begin(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    resources = {"instances": {"per-node": 1}, "gpus": {"total": 6}}
    job = master.launch(make_job(["/bin/sh", "-c", SHOW], resources), new_id())
    assert master.wait(job, limit_s=60) == "FAILED"
    assert "the nodes have 2,4 GPUs" in job.task_log[-1]
    assert b" gpus " not in master.log(job, "output.log")


def test_a_cancel_ends_work_that_would_go_on_after_a_notice(
    master: GoMaster, new_id: Callable[[], str]
) -> None:
    words = ["/bin/sh", "-c", "trap 'echo told; exit 7' TERM; echo up; while :; do sleep 0.1; done"]
    job = master.launch(make_job(words), new_id())
    wait_until(lambda: b"up" in master.log(job, "output.log"), "the job runs", limit_s=60)
    master.kill(job)
    assert master.wait(job) == "TERMINATED"
    assert b"told" in master.log(job, "output.log")
    assert b"the job is cancelled" in master.log(job, "error.log")
