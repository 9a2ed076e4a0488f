"""Trials as Slurm jobs: over several nodes, through pre-emption by Slurm and back, and to bad ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import SlurmSite
from tests.e2e.experiments import (
    create,
    fetch_steps,
    fetch_trials,
    wait_for_end,
    wait_for_line,
    wait_for_trial,
    write_config,
)
from tests.e2e.tasks import fetch_log, fetch_task
from tests.e2e.test_slurm_jobs import job_of, submit_urgent

TWO_NODES: dict[str, Any] = {
    "resources": {"resource_pool": "gpu", "slots_per_trial": 4},
    "slurm": {"slots_per_node": 2},
}


@pytest.fixture(autouse=True)
def _no_jobs_left(slurm_site: SlurmSite) -> Iterator[None]:
    yield
    slurm_site.slurm.clear()


def test_a_trial_is_pre_empted_by_slurm_and_goes_on_from_its_checkpoint(
    slurm_site: SlurmSite, tmp_path: Path
) -> None:
    site, slurm = slurm_site, slurm_site.slurm
    config = write_config(
        tmp_path,
        "python ranks.py",
        hyperparameters={"steps": 60, "pause": 0.5},
        **TWO_NODES,
    )
    experiment_id = create(site, config)
    task_id = wait_for_trial(site.api, experiment_id)["taskId"]
    wait_for_line(site.api, experiment_id, "4 ranks begin after step 0")
    first = job_of(site, task_id)

    urgent = submit_urgent(slurm, "sleep 300")
    left = wait_for_line(site.api, experiment_id, "leaving after step")
    slurm.wait_for_job(urgent, "RUNNING")
    assert slurm.job_states()[first] == "COMPLETED", "the job ended by itself, Slurm did not end it"
    step = int(left.split()[-1])
    slurm.run(["scancel", urgent])

    wait_for_line(site.api, experiment_id, f"4 ranks begin after step {step}")
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_COMPLETED"
    trial = fetch_trials(site.api, experiment_id)[0]
    assert int(trial["restarts"]) == 0, "a pre-emption is no failure"
    assert fetch_steps(site.api, int(trial["id"])) == list(range(1, 61)), "no gap and no double"
    assert fetch_steps(site.api, int(trial["id"]), "validation") == [step, 60]
    runs = [one["allocationId"] for one in fetch_task(site.api, task_id)["allocations"]]
    assert runs == [f"{task_id}.2", f"{task_id}.1"]
    text = "\n".join(fetch_log(site.api, task_id))
    assert text.count("leaving after step") == 1
    assert text.count("preempted by the scheduler") == 1
    assert f"HPC Job ID: {first}" in text


def test_a_trial_that_waits_in_slurm_s_queue_says_why(
    slurm_site: SlurmSite, tmp_path: Path
) -> None:
    site = slurm_site
    urgent = submit_urgent(site.slurm, "sleep 300")
    site.slurm.wait_for_job(urgent, "RUNNING")
    config = write_config(
        tmp_path, "python ranks.py", hyperparameters={"steps": 1, "pause": 0}, **TWO_NODES
    )
    experiment_id = create(site, config)
    wait_for_line(site.api, experiment_id, "HPC job waiting to be scheduled", limit_s=60)
    site.slurm.run(["scancel", urgent])
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_COMPLETED"


def test_a_job_that_is_cancelled_outside_is_a_failure_of_the_trial_and_no_pre_emption(
    slurm_site: SlurmSite, tmp_path: Path
) -> None:
    site = slurm_site
    config = write_config(tmp_path, "echo begins; exec sleep 1000", **TWO_NODES)
    experiment_id = create(site, config)
    wait_for_line(site.api, experiment_id, "begins")
    task_id = wait_for_trial(site.api, experiment_id)["taskId"]
    site.slurm.run(["scancel", job_of(site, task_id)])
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_ERROR"
    runs = fetch_task(site.api, task_id)["allocations"]
    assert len(runs) == 1
    assert "Cancelled" in runs[0]["exitReason"]


def test_a_container_that_never_starts_is_told(slurm_site: SlurmSite, tmp_path: Path) -> None:
    site = slurm_site
    config = write_config(
        tmp_path,
        "echo begins",
        bind_mounts=[{"host_path": "/not/there", "container_path": "/data"}],
        **TWO_NODES,
    )
    experiment_id = create(site, config)
    assert wait_for_end(site.api, experiment_id)["state"] == "STATE_ERROR"
    trial = fetch_trials(site.api, experiment_id)[0]
    assert any("/not/there" in line for line in fetch_log(site.api, trial["taskId"]))
