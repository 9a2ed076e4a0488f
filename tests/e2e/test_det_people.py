"""The stock `det` command about what is kept: tokens, templates, the master's log, its notice, use."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Site
from tests.e2e.tasks import fetch_command, wait_for_end, wait_for_log


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
    removed = site.admin.run("task", "cleanup-logs").stdout

    assert len(log.splitlines()) == 5
    assert "down at five" in told
    assert "down at five" not in cleared
    assert "0" in removed  # they are kept for ever, unless the settings say otherwise


def test_who_used_how_much(site: Site) -> None:
    command_id = site.det.run(
        "cmd", "run", "--detach", "--config", "resources.slots=2", "sleep 1"
    ).stdout.strip()
    wait_for_end(site.api, command_id)
    span = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    raw = csv.DictReader(io.StringIO(site.det.run("res", "raw", *span).stdout))
    runs = csv.DictReader(io.StringIO(site.det.run("res", "allocations", *span).stdout))
    sums = csv.DictReader(io.StringIO(site.det.run("res", "aggregated", today, today).stdout))

    assert {"determined"} <= {one["username"] for one in raw}
    [run] = [one for one in runs if one["allocation_id"] == f"{command_id}.1"]
    assert float(run["slot_hours"]) * 3600 > 2
    [total] = [one for one in sums if one["aggregation_type"] == "total"]
    assert float(total["seconds"]) > 2


def test_the_queue_and_places_in_it(site: Site) -> None:
    slots = ("--config", "resources.slots=4")
    running = site.det.run("cmd", "run", "--detach", *slots, "sleep 60").stdout.strip()
    waiting = site.det.run("cmd", "run", "--detach", *slots, "true").stdout.strip()
    job_id = fetch_command(site.api, waiting)["jobId"]

    site.det.run("job", "update", job_id, "--priority", "7")
    listed = site.det.run("job", "list").stdout
    refused = site.det.run("job", "update", job_id, "--weight", "2", check=False)
    site.det.run("cmd", "kill", running)
    wait_for_end(site.api, waiting)

    [row] = [line for line in listed.splitlines() if job_id in line]
    assert re.search(r"\|\s+7\s+\|", row)
    assert refused.returncode == 1
    assert "a weight means nothing" in refused.stdout + refused.stderr


def test_the_search_of_the_documentation_is_previewed_as_it_says(
    site: Site, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "docs/search.md").read_text()
    config, shown = re.findall(r"^```(?:yaml)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "config.yaml").write_text(config)

    previewed = site.det.run("preview-search", str(tmp_path / "config.yaml")).stdout

    assert previewed == shown
