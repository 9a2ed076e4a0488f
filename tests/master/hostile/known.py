"""Things to ask about: a master is furnished with them before it is attacked."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from tests.lab.processes import LabError
from tests.lab.shipway import Api
from tests.master.hostile.values import Known, corrupt, to_text

OTHER_USER_ID = 2

TASK: dict[str, Any] = {
    "description": "a task",
    "entrypoint": ["true"],
    "environment": {
        "image": {"cpu": "image", "cuda": "image"},
        "environment_variables": {"cpu": ["A=b"], "cuda": ["A=b"]},
        "ports": {"web": 8080},
        "proxy_ports": [{"proxy_port": 8080, "proxy_tcp": False, "unauthenticated": False}],
        "registry_auth": {"username": "u", "password": "p"},
    },
    "resources": {"slots": 1, "priority": 50, "weight": 1.5, "shm_size": "1g", "devices": []},
    "bind_mounts": [{"host_path": "/nowhere", "container_path": "/x", "read_only": True}],
    "work_dir": "/work",
    "slurm": {"gpu_type": "a100", "slots_per_node": 1, "sbatch_args": ["-t 1"]},
}

EXPERIMENT: dict[str, Any] = {
    "name": "an experiment",
    "description": "d",
    "labels": ["a", "b"],
    "entrypoint": "true",
    "searcher": {
        "name": "adaptive_asha",
        "metric": "loss",
        "smaller_is_better": True,
        "max_trials": 3,
        "time_metric": "batches",
        "max_time": 10,
        "mode": "standard",
        "max_rungs": 2,
        "divisor": 4,
    },
    "hyperparameters": {
        "lr": {"type": "log", "minval": -4, "maxval": -1, "base": 10, "count": 2},
        "width": {"type": "int", "minval": 1, "maxval": 9, "count": 3},
        "kind": {"type": "categorical", "vals": ["a", 1, None]},
        "deep": {"inner": {"type": "const", "val": {"a": 1}}},
        "plain": 1.5,
    },
    "resources": {"slots_per_trial": 1, "priority": 50, "max_slots": 2, "weight": 1},
    "checkpoint_storage": {
        "type": "shared_fs",
        "host_path": "/tmp",
        "storage_path": "a",
        "save_trial_best": 1,
        "save_trial_latest": 1,
        "save_experiment_best": 0,
    },
    "environment": {"image": "i", "environment_variables": ["A=b"], "ports": {"a": 1}},
    "log_policies": [{"name": "n", "pattern": ".*", "action": "cancel_retries"}],
    "reproducibility": {"experiment_seed": 1},
    "max_restarts": 0,
    "min_validation_period": {"batches": 1},
    "profiling": {"enabled": True},
    "retention_policy": {"log_retention_days": 1},
}
WEBHOOK: dict[str, Any] = {
    "name": "hook",
    "url": "http://127.0.0.1:1/",
    "webhookType": "WEBHOOK_TYPE_DEFAULT",
    "mode": "WEBHOOK_MODE_WORKSPACE",
    "triggers": [
        {
            "triggerType": "TRIGGER_TYPE_EXPERIMENT_STATE_CHANGE",
            "condition": {"state": "COMPLETED"},
        }
    ],
}
CHECKPOINT: Final = "11111111-1111-4111-8111-111111111111"


def furnish(api: Api) -> Known:
    """Make one of each thing, by an administrator's *api*; return all that can be named then."""
    command = api.call("POST", "/api/v1/commands", {"config": TASK})["command"]
    shell = api.call("POST", "/api/v1/shells", {"config": {}})["shell"]
    notebook = api.call("POST", "/api/v1/notebooks", {"config": {}})["notebook"]
    config = json.dumps({"entrypoint": ["true"]})
    generic = api.call("POST", "/api/v1/generic-tasks", {"config": config})["taskId"]
    api.call("POST", "/api/v1/templates/t", {"config": {}})
    token = api.call("POST", "/api/v1/tokens", {"userId": OTHER_USER_ID})["tokenId"]
    experiments = [_make_experiment(api, is_managed=is_managed) for is_managed in (True, False)]
    trials = [
        api.call("POST", "/api/v1/trials", {"experimentId": experiments[1], "unmanaged": True})
        for _ in range(2)
    ]
    trial_ids = [made["trial"]["id"] for made in trials]
    trial_task = trials[0]["trial"]["taskId"]
    checkpoint = {"uuid": CHECKPOINT, "taskId": trial_task, "metadata": {"steps_completed": 1}}
    api.call("POST", "/api/v1/checkpoints", checkpoint)
    workspace = api.call("POST", "/api/v1/workspaces", {"name": "w"})["workspace"]["id"]
    path = f"/api/v1/workspaces/{workspace}/projects"
    project = api.call("POST", path, {"name": "p"})["project"]["id"]
    api.call("POST", "/api/v1/models", {"name": "m"})
    api.call("POST", "/api/v1/models/m/versions", {"checkpointUuid": CHECKPOINT})
    webhook = api.call("POST", "/api/v1/webhooks", WEBHOOK)["webhook"]["id"]
    tasks = [command["id"], shell["id"], notebook["id"], generic]
    return Known(
        {
            "command_id": [command["id"]],
            "shell_id": [shell["id"]],
            "notebook_id": [notebook["id"]],
            "task_id": tasks,
            "parent_id": [generic],
            "forked_from": [generic],
            "allocation_id": [f"{one}.1" for one in tasks],
            "job_id": [command["jobId"], shell["jobId"]],
            "resource_pool": ["default", "default", ""],
            "resource_pool_name": ["default"],
            "pool_name": ["default"],
            "template_name": ["t", "", ""],
            "old_name": ["t"],
            "user_id": [OTHER_USER_ID],
            "user_ids": [OTHER_USER_ID],
            "token_id": [token],
            "token_ids": [token],
            "agent_id": ["agent-a"],
            "slot_id": ["0"],
            "request_uuid": ["12345678-1234-4234-9234-123456789abc"],
            "trial_id": trial_ids,
            "trial_ids": trial_ids,
            "run_id": trial_ids,
            "run_ids": trial_ids,
            "experiment_id": experiments,
            "experiment_ids": experiments,
            "checkpoint_uuid": [CHECKPOINT],
            "checkpoint_uuids": [CHECKPOINT],
            "checkpoint_globs": ["*", "**/a", "[", ""],
            "uuid": [CHECKPOINT],
            "workspace_id": [workspace, 1, 0],
            "workspace_ids": [workspace],
            "project_id": [project, 1, 0],
            "destination_project_id": [project],
            "source_project_id": [project, 1],
            "destination_workspace_id": [workspace],
            "id": [*experiments, *trial_ids, workspace, project, webhook],
            "model_name": ["m"],
            "model_version_num": [1],
            "webhook_id": [webhook],
            "url": [WEBHOOK["url"]],
            "condition": [{"state": "COMPLETED"}, {"regex": "(a|b)"}, {"regex": "("}],
            "metric_name": ["loss"],
            "metric_names": ["loss"],
            "group": ["training", "validation", "a"],
            "steps_completed": [1, 2, 100],
            "trial_run_id": [0, 0, 1],
            "hparams": [{"lr": 0.5}],
            "metrics": [{"avg_metrics": {"loss": 0.5, "a.b": "text"}}],
            "avg_metrics": [{"loss": 0.5}],
            "metadata": [{"steps_completed": 1, "a": {"b": [1]}}],
            "config": [TASK],
            "limit": [0, 5, -1, -2],
            "offset": [0, 0, -1, 1],
            "timeout_seconds": [0],
            "level": ["LOG_LEVEL_INFO"],
            # Failures with one name are answered ever more slowly.
            "LoginRequest.username": [f"user-{number}" for number in range(1000)],
            **_texts_of_json(),
        },
        always=frozenset({"user_id", "level"}),
    )


def _make_experiment(api: Api, *, is_managed: bool) -> int:
    body = {"config": json.dumps(EXPERIMENT), "unmanaged": not is_managed, "activate": is_managed}
    experiment_id: int = api.call("POST", "/api/v1/experiments", body)["experiment"]["id"]
    return experiment_id


def _texts_of_json() -> dict[str, list[Any]]:
    condition = {"kind": "field", "location": "LOCATION_TYPE_RUN", "columnName": "id"}
    group = {
        "children": [{**condition, "type": "COLUMN_TYPE_NUMBER", "operator": ">", "value": 1}],
        "conjunction": "and",
        "kind": "group",
    }
    return {
        "filter": [json.dumps({"filterGroup": group, "showArchived": False}), ""],
        "sort": ["id=asc", "id=desc,name=asc", "id"],
        "CreateGenericTaskRequest.config": _bent(TASK),
        "CreateExperimentRequest.config": _bent(EXPERIMENT),
        "PreviewHPSearchRequest.config": [EXPERIMENT],
        "override_config": _bent(EXPERIMENT),
    }


def _bent(config: dict[str, Any]) -> list[str]:
    """Write a configuration as text, most times with a part that does not fit."""
    rng = random.Random(4)
    texts = [to_text(corrupt(config, rng)).decode()[:20_000] for _ in range(300)]
    return [*texts, "entrypoint: [a]", ": : [", "a: &x [*x]", "!!python/object:os.system {}", "- 1"]


def require_alive(api: Api) -> None:
    """Ask a furnished master for what it must still be able to do.

    Raises:
        LabError: It is not.
    """
    assert api.call("GET", "/api/v1/me")["user"]["username"] == "admin"
    made = api.call("POST", "/api/v1/commands", {"config": {"entrypoint": ["true"]}})["command"]
    for path in (f"/api/v1/commands/{made['id']}", f"/api/v1/tasks/{made['id']}", "/api/v1/users"):
        api.call("GET", path)
    api.call("POST", f"/api/v1/commands/{made['id']}/kill", {})
    status, _ = api.send("GET", f"/api/v1/commands/{made['id']}x")
    if status != 404:
        raise LabError(f"a command that is not there answers {status}")
