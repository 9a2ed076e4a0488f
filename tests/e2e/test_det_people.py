"""The stock `det` command where people keep things: tokens, templates, the master's log and notice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Site
from tests.e2e.tasks import fetch_command, wait_for_log


def test_a_token_made_by_the_client_lets_another_one_in(site: Site, det: Any) -> None:
    made = site.det.run("token", "create", "--expiration-days", "3", "--json").stdout
    token = json.loads(made)["token"]
    token_id = str(json.loads(made)["tokenId"])
    program = det(master=site.master.url, user="determined", password="not-needed-1")
    del program.environment["DET_PASS"]  # it would be asked for a password, as a program cannot
    program.environment["DET_USER_TOKEN"] = token

    whoami = program.run("user", "whoami")
    listed = site.det.run("token", "list").stdout
    site.det.run("token", "revoke", token_id)
    refused = program.run("user", "whoami", check=False)

    assert whoami.stdout == "You are logged in as user 'determined'\n"
    assert re.search(rf"^\s*{token_id}\s*\|", listed, re.MULTILINE)
    assert refused.returncode == 1


def test_a_command_from_a_template(site: Site, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text("description: from a template\nresources:\n  slots: 2\n")

    site.det.run("template", "create", "two-slots", str(template))
    listed = site.det.run("template", "list").stdout
    described = site.det.run("template", "describe", "two-slots").stdout
    command_id = site.det.run(
        *("cmd", "run", "--detach", "--template", "two-slots"),
        *("--config", "resources.slots=1", "echo started"),
    ).stdout.strip()
    wait_for_log(site.api, command_id, "started")
    template.write_text("description: changed\n")
    site.det.run("template", "set", "two-slots", str(template))
    changed = site.det.run("template", "describe", "two-slots").stdout
    site.det.run("template", "remove", "two-slots")
    gone = site.det.run("template", "describe", "two-slots", check=False)

    assert re.search(r"^\s*two-slots\s*", listed, re.MULTILINE)
    assert "from a template" in described
    command = fetch_command(site.api, command_id)
    assert command["description"] == "from a template"
    assert "changed" in changed
    assert gone.returncode == 1
    assert "not found" in gone.stdout + gone.stderr


def test_the_masters_log_and_its_notice(site: Site) -> None:
    log = site.admin.run("master", "logs", "--tail", "5").stdout
    site.admin.run(
        *("master", "cluster-message", "set", "--message", "down at five", "--duration", "1h")
    )
    told = site.admin.run("master", "cluster-message", "get").stdout
    site.admin.run("master", "cluster-message", "clear")
    cleared = site.admin.run("master", "cluster-message", "get").stdout

    assert len(log.splitlines()) == 5
    assert "down at five" in told
    assert "down at five" not in cleared
