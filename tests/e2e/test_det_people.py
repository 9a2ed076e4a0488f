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

    run = ("cmd", "run", "--detach", "--template", "two-slots", "--config", "resources.slots=1")
    first = site.det.run_several(
        ["template", "create", "two-slots", str(template)],
        ["template", "list"],
        ["template", "describe", "two-slots"],
        [*run, "echo started"],
    )
    assert [status for status, _ in first] == [0] * 4, first
    _, listed, described, launched = (text for _, text in first)
    command_id = launched.strip()
    wait_for_log(site.api, command_id, "started")
    template.write_text("description: changed\n")
    *_, (_, changed), (removed, _), (gone, told) = site.det.run_several(
        ["template", "set", "two-slots", str(template)],
        ["template", "describe", "two-slots"],
        ["template", "remove", "two-slots"],
        ["template", "describe", "two-slots"],
    )

    assert re.search(r"^\s*two-slots\s*", listed, re.MULTILINE)
    assert "from a template" in described
    command = fetch_command(site.api, command_id)
    assert command["description"] == "from a template"
    assert "changed" in changed
    assert (removed, gone) == (0, 1)
    assert "not found" in told


def test_the_masters_log_and_its_notice(site: Site) -> None:
    notice = ("master", "cluster-message")
    answers = site.admin.run_several(
        [*notice, "set", "--message", "down at five", "--duration", "1h"],
        [*notice, "get"],
        [*notice, "clear"],
        [*notice, "get"],
        ["master", "logs", "--tail", "5"],
        ["task", "cleanup-logs"],
    )
    _, told, _, cleared, log, removed = (text for _, text in answers)

    assert [status for status, _ in answers] == [0] * 6, answers
    assert len(log.splitlines()) == 5
    assert "down at five" in told
    assert "down at five" not in cleared
    assert "0" in removed  # they are kept for ever, unless the settings say otherwise


def test_who_used_how_much(site: Site) -> None:
    first_day = f"{datetime.now(UTC):%Y-%m-%d}"
    command_id = site.det.run(
        "cmd", "run", "--detach", "--config", "resources.slots=2", "sleep 1"
    ).stdout.strip()
    wait_for_end(site.api, command_id)
    span = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
    last_day = f"{datetime.now(UTC):%Y-%m-%d}"

    raw = csv.DictReader(io.StringIO(site.det.run("res", "raw", *span).stdout))
    runs = csv.DictReader(io.StringIO(site.det.run("res", "allocations", *span).stdout))
    sums = csv.DictReader(
        io.StringIO(site.det.run("res", "aggregated", first_day, last_day).stdout)
    )

    assert {"determined"} <= {one["username"] for one in raw}
    [run] = [one for one in runs if one["allocation_id"] == f"{command_id}.1"]
    assert float(run["slot_hours"]) * 3600 > 2
    totals = [float(one["seconds"]) for one in sums if one["aggregation_type"] == "total"]
    assert sum(totals) > 2


def test_the_queue_and_places_in_it(site: Site) -> None:
    slots = ("--config", "resources.slots=4")
    running = site.det.run("cmd", "run", "--detach", *slots, "exec sleep 1000").stdout.strip()
    waiting = site.det.run("cmd", "run", "--detach", *slots, "true").stdout.strip()
    job_id = fetch_command(site.api, waiting)["jobId"]

    (updated, _), (_, listed), (refused, told), (killed, _) = site.det.run_several(
        ["job", "update", job_id, "--priority", "7"],
        ["job", "list"],
        ["job", "update", job_id, "--weight", "2"],
        ["cmd", "kill", running],
    )
    wait_for_end(site.api, waiting)

    [row] = [line for line in listed.splitlines() if job_id in line]
    assert re.search(r"\|\s+7\s+\|", row)
    assert (updated, refused, killed) == (0, 1, 0)
    assert "a weight means nothing" in told


def test_the_search_of_the_documentation_is_previewed_as_it_says(
    site: Site, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "docs/search.md").read_text()
    config, shown = re.findall(r"^```(?:yaml)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "config.yaml").write_text(config)

    previewed = site.det.run("preview-search", str(tmp_path / "config.yaml")).stdout

    assert previewed == shown
