"""Things to ask about: a master is furnished with them before it is attacked."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.processes import LabError
from tests.lab.shipway import Api
from tests.master.hostile.values import Known

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


def furnish(api: Api) -> Known:
    """Make one of each thing, by an administrator's *api*; return all that can be named then."""
    command = api.call("POST", "/api/v1/commands", {"config": TASK})["command"]
    shell = api.call("POST", "/api/v1/shells", {"config": {}})["shell"]
    notebook = api.call("POST", "/api/v1/notebooks", {"config": {}})["notebook"]
    config = json.dumps({"entrypoint": ["true"]})
    generic = api.call("POST", "/api/v1/generic-tasks", {"config": config})["taskId"]
    api.call("POST", "/api/v1/templates/t", {"config": {}})
    token = api.call("POST", "/api/v1/tokens", {"userId": OTHER_USER_ID})["tokenId"]
    tasks = [command["id"], shell["id"], notebook["id"], generic]
    ones = [1]
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
            "trial_id": ones,
            "trial_ids": ones,
            "experiment_id": ones,
            "experiment_ids": ones,
            "workspace_id": [1, 0],
            "project_id": [1, 0],
            "id": ones,
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
        "CreateGenericTaskRequest.config": [json.dumps(TASK), "entrypoint: [a]", ": : ["],
    }


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
