"""Trials that run elsewhere, and the checkpoints that they leave in a folder."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.lab import det as det_lab
from tests.lab.processes import wait_until
from tests.lab.shipway import Api

PYTHON = det_lab.program().with_name("python")
"""It has the package `determined`."""


@dataclass(frozen=True)
class OutsideTrial:
    """A trial of the user, whose program runs outside of the cluster."""

    api: Api
    experiment_id: int
    trial_id: int
    task_id: str

    def report(self, files: Mapping[str, bytes], *, steps: int = 10, **changes: Any) -> str:
        """Tell of a checkpoint with *files*, as the harness does; return its UUID."""
        body: dict[str, Any] = {
            "uuid": str(uuid.uuid4()),
            "taskId": self.task_id,
            "state": "STATE_COMPLETED",
            "resources": {name: str(len(data)) for name, data in files.items()},
            "metadata": {"steps_completed": steps},
            "training": {},
            **changes,
        }
        self.api.call("POST", "/api/v1/checkpoints", body)
        checkpoint_uuid: str = body["uuid"]
        return checkpoint_uuid

    def save(self, folder: Path, files: Mapping[str, bytes], **changes: Any) -> str:
        """Write a checkpoint into the storage *folder*, and tell of it."""
        checkpoint_uuid = str(uuid.uuid4())
        for name, data in files.items():
            path = folder / checkpoint_uuid / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self.report(files, uuid=checkpoint_uuid, **changes)

    def validate(self, steps: int, **metrics: float | str) -> None:
        """Tell what was measured after *steps*."""
        body = {
            "group": "validation",
            "metrics": {
                "trialId": self.trial_id,
                "trialRunId": 1,
                "stepsCompleted": steps,
                "metrics": {"avgMetrics": metrics},
            },
        }
        self.api.call("POST", f"/api/v1/trials/{self.trial_id}/metrics", body)


def begin_outside_trial(api: Api, config: Mapping[str, Any]) -> OutsideTrial:
    """Make an unmanaged experiment with one trial, and start that."""
    text = yaml.safe_dump({"searcher": {"name": "single", "metric": "loss"}, **config})
    body = {"config": text, "unmanaged": True, "activate": True}
    experiment = api.call("POST", "/api/v1/experiments", body)["experiment"]
    wish = {"experimentId": experiment["id"], "hparams": {"lr": 0.1}, "unmanaged": True}
    trial = api.call("POST", "/api/v1/trials", wish)["trial"]
    api.call("POST", f"/api/v1/trials/{trial['id']}/start", {"resume": False})
    return OutsideTrial(api, experiment["id"], trial["id"], trial["taskId"])


def fetch_checkpoint(api: Api, checkpoint_uuid: str) -> Any:
    """Return the checkpoint as the API gives it."""
    return api.call("GET", f"/api/v1/checkpoints/{checkpoint_uuid}")["checkpoint"]


def wait_for_checkpoint(api: Api, checkpoint_uuid: str, state: str, *, limit_s: float = 60) -> Any:
    """Wait until a checkpoint is in a state, and return it."""
    wait_until(
        lambda: fetch_checkpoint(api, checkpoint_uuid)["state"] == f"STATE_{state}",
        f"checkpoint {checkpoint_uuid} in state {state}",
        limit_s=limit_s,
        interval_s=0.1,
    )
    return fetch_checkpoint(api, checkpoint_uuid)
