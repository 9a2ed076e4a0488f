"""Jobs by the REST API: launched, looked at, waited for."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.processes import wait_until
from tests.launcher.api.rest import Rest

FINAL = {"TERMINATED", "COMPLETED", "FAILED", "MISSING"}
PAYLOAD = "ai_cmd-9d0c7a3e"


def launch(rest: Rest, manifest: Any, name: str, **options: Any) -> dict[str, Any]:
    answer = rest("PUT", f"/launch?impersonate=&dispatchId={name}", manifest, **options)
    assert answer.status == 201, answer.body
    info: dict[str, Any] = json.loads(answer.body)
    return info


def status(rest: Rest, user: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = rest.json(f"/monitoring/{user}/environments/{name}/status?refresh=true")
    return found


def wait_for(rest: Rest, user: str, name: str, *states: str) -> dict[str, Any]:
    wait_until(
        lambda: status(rest, user, name)["state"] in (states or FINAL),
        f"{name} is {states or FINAL}",
        limit_s=60,
    )
    return status(rest, user, name)
