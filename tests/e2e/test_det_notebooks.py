"""Notebooks with the stock `det`; a small server stands in the image as `jupyter`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.e2e.conftest import Site
from tests.e2e.tasks import fetch_log, states, wait_for_end, wait_for_log
from tests.lab.shipway import PASSWORD

_PROGRAMS = Path(__file__).parent / "payloads/bin"
PATH = f"PATH={_PROGRAMS}:{os.environ['PATH']}"


def test_a_notebook_is_started_read_listed_and_killed(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "notebook.yaml"
    config.write_text(
        f"resources: {{slots: 0}}\nenvironment: {{environment_variables: ['{PATH}']}}\n"
    )
    preview = site.det.run("notebook", "start", "--preview", "--config-file", str(config)).stdout
    started = site.det.run("notebook", "start", "--no-browser", "--config-file", str(config))
    found = re.search(r"[0-9a-f]{8}-[0-9a-f-]{27}", started.stdout)
    assert found is not None
    notebook_id = found[0]

    notebook = site.api.call("GET", f"/api/v1/notebooks/{notebook_id}")["notebook"]
    page = site.api.send("GET", notebook["serviceAddress"])
    link = site.api.send("GET", f"/det/interactive/{notebook_id}/jupyter-lab/x/y/z")
    without_token = site.api.send("GET", f"/proxy/{notebook_id}/")
    listed = site.det.run("notebook", "list").stdout
    site.det.run("notebook", "kill", notebook_id)
    wait_for_end(site.api, notebook_id)
    gone = site.api.send("GET", notebook["serviceAddress"])

    assert "environment_variables" in preview
    assert page == (200, "a notebook in /run/determined/workdir")
    assert link == page
    assert without_token[0] == 403
    assert re.search(rf"{notebook_id}.*RUNNING", listed)
    assert gone[0] == 404


def start_notebook(site: Site, *variables: str, idle_timeout: str) -> str:
    """Start a notebook and wait until it can be used; return its id."""
    config = {
        "resources": {"slots": 0},
        "idle_timeout": idle_timeout,
        "environment": {"environment_variables": [PATH, *variables]},
    }
    made = site.api.call("POST", "/api/v1/notebooks", {"config": config})["notebook"]
    notebook_id: str = made["id"]
    wait_for_log(site.api, notebook_id, "is available")
    return notebook_id


def test_a_notebook_with_a_kernel_is_not_ended_for_idling(site: Site) -> None:
    working = start_notebook(site, "KERNELS=1", idle_timeout="4s")
    idle = start_notebook(site, idle_timeout="4s")

    wait_for_log(site.api, idle, "nobody used it for 4s")
    wait_for_end(site.api, idle)
    state = states(site.api, working)[0]
    site.api.call("POST", f"/api/v1/notebooks/{working}/kill")
    wait_for_end(site.api, working)

    assert state == "STATE_RUNNING"
    assert not [line for line in fetch_log(site.api, working) if "report" in line]


def test_the_token_of_a_notebook_is_its_owners(site: Site) -> None:
    name = "stranger-at-a-notebook"
    admin = site.master.login("admin")
    admin.call(
        "POST",
        "/api/v1/users",
        {"user": {"username": name, "active": True}, "password": PASSWORD},
    )
    stranger = site.master.login(name)
    config = {"resources": {"slots": 0}}
    made = site.api.call("POST", "/api/v1/notebooks", {"config": config})["notebook"]

    seen = stranger.call("GET", f"/api/v1/notebooks/{made['id']}")["notebook"]
    refused, _ = stranger.send("POST", f"/api/v1/notebooks/{made['id']}/kill")
    site.api.call("POST", f"/api/v1/notebooks/{made['id']}/kill")
    wait_for_end(site.api, made["id"])

    assert "token=" in made["serviceAddress"]
    assert seen["serviceAddress"] == f"/proxy/{made['id']}/"
    assert refused == 403
