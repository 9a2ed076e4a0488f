"""What the tests of trials do again and again, with the stock client and over the REST API."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.conftest import Site
from tests.e2e.tasks import fetch_log, wait_for_log
from tests.lab.det import program
from tests.lab.processes import wait_until
from tests.lab.pythonimages import python_image_tar
from tests.lab.shipway import Api

MODELS = Path(__file__).parent / "models"
END_STATES = {"STATE_COMPLETED", "STATE_CANCELED", "STATE_ERROR"}


def write_config(folder: Path, entrypoint: str, **changes: Any) -> Path:
    """Write a configuration of a single trial, whose Python is that of the stock client.

    Args:
        folder: Where it is written; checkpoints go below it, too.
        entrypoint: A line for the shell; `python` is the stock client's.
        changes: Sections that are not as usual.
    """
    storage = folder / "checkpoints"
    storage.mkdir(exist_ok=True)
    python = program().with_name("python")
    config = {
        "name": "a trial",
        "entrypoint": entrypoint,
        "hyperparameters": {},
        "searcher": {"name": "single", "metric": "val"},
        "max_restarts": 0,
        "checkpoint_storage": {"type": "shared_fs", "host_path": str(storage)},
        "environment": {
            "environment_variables": [
                f"DET_PYTHON_EXECUTABLE={python}",
                f"PATH={python.parent}:{os.environ['PATH']}",
            ]
        },
        **changes,
    }
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def write_config_of_ranks(folder: Path, **changes: Any) -> Path:
    """Write a configuration of a trial that trains in ranks, and needs no more than Python in its image."""
    venv = str(program().parents[1])
    return write_config(
        folder,
        "python ranks.py",
        hyperparameters={"steps": 60, "pause": 0.3},
        bind_mounts=[{"host_path": venv, "container_path": venv, "read_only": True}],
        **changes,
    )


def write_python_image(folder: Path) -> Path:
    """Write an image with the Python of the stock client, for an engine to import."""
    archive = folder / "image.tar"
    archive.write_bytes(python_image_tar(program().with_name("python")))
    return archive


def train_with_a_pause(site: Site, config: Path, *options: str, ranks: int) -> int:
    """Have a trial leave with a checkpoint, go on from it and end; returns the experiment's id."""
    experiment_id = create(site, config, *options)
    wait_for_line(site.api, experiment_id, f"{ranks} ranks begin after step 0")
    site.api.call("POST", f"/api/v1/experiments/{experiment_id}/pause")
    step = wait_for_line(site.api, experiment_id, "leaving after step").split()[-1]
    site.api.call("POST", f"/api/v1/experiments/{experiment_id}/activate")
    wait_for_line(site.api, experiment_id, f"{ranks} ranks begin after step {step}")
    ended = wait_for_end(site.api, experiment_id)
    assert ended["state"] == "STATE_COMPLETED", describe(site.api, experiment_id)
    return experiment_id


def create(site: Site, config: Path, *options: str, model: Path = MODELS) -> int:
    """Create an experiment with the stock client and return its id."""
    done = site.det.run("experiment", "create", str(config), str(model), *options)
    found = re.search(r"Created experiment (\d+)", done.stdout)
    assert found is not None, done.stdout
    return int(found[1])


def fetch_experiment(api: Api, experiment_id: int) -> Any:
    """Return the experiment as the API gives it."""
    return api.call("GET", f"/api/v1/experiments/{experiment_id}")["experiment"]


def fetch_trials(api: Api, experiment_id: int) -> list[Any]:
    """Return the trials of an experiment as the API gives them, oldest first."""
    answer = api.call("GET", f"/api/v1/experiments/{experiment_id}/trials?limit=1000")
    return sorted(answer["trials"], key=lambda trial: int(trial["id"]))


def wait_for_trial(api: Api, experiment_id: int) -> Any:
    """Wait for the first trial of an experiment."""
    wait_until(lambda: fetch_trials(api, experiment_id), "a trial", limit_s=60)
    return fetch_trials(api, experiment_id)[0]


def wait_for_state(api: Api, experiment_id: int, *wanted: str, limit_s: float = 60) -> Any:
    """Wait until an experiment is in one of the *wanted* states (STATE_…) and return it."""
    wait_until(
        lambda: fetch_experiment(api, experiment_id)["state"] in wanted,
        f"experiment {experiment_id} in {' or '.join(wanted)}",
        limit_s=limit_s,
        interval_s=0.1,
        logs=lambda: describe(api, experiment_id),
    )
    return fetch_experiment(api, experiment_id)


def wait_for_end(api: Api, experiment_id: int, *, limit_s: float = 90) -> Any:
    """Wait until an experiment has ended and return it."""
    return wait_for_state(api, experiment_id, *END_STATES, limit_s=limit_s)


def wait_for_line(api: Api, experiment_id: int, text: str, *, limit_s: float = 60) -> str:
    """Wait for a line with *text* in the log of an experiment's first trial and return it.

    Raises:
        LabError: There was none, or the trial has ended without; with its log.
    """
    task_id = wait_for_trial(api, experiment_id)["taskId"]
    return wait_for_log(api, task_id, text, limit_s=limit_s)


def fetch_steps(api: Api, trial_id: int, group: str = "training") -> list[int]:
    """Return the steps of a trial's reports that count, in their order."""
    lines = api.lines(f"/api/v1/trials/metrics/trial_metrics?trialIds={trial_id}&group={group}")
    return [int(report["totalBatches"]) for line in lines for report in line["metrics"]]


def describe(api: Api, experiment_id: int) -> str:
    """Say how an experiment is, for people who look at a failure."""
    parts = [json.dumps(fetch_experiment(api, experiment_id)["state"])]
    for trial in fetch_trials(api, experiment_id)[:3]:
        parts.append(f"trial {trial['id']}: {trial['state']}")
        parts += fetch_log(api, trial["taskId"])[-40:]
    return "\n".join(parts)
