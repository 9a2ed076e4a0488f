"""Answers over REST: their notation, their names, their age."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
import yaml

from tests.lab.slurm import Slurm
from tests.launcher.api.jobs import FINAL, PAYLOAD, launch, wait_for
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest, make_query

YAML = {"Accept": "application/yaml", "Content-Type": "application/yaml"}


def test_yaml_in_and_out(rest: Rest, new_id: Callable[[], str], user: str) -> None:
    name = new_id()
    words = ["/bin/echo", "2026-01-02", "yes", "0x10", "1e3", "día", "~"]
    body = yaml.safe_dump(make_manifest(words), allow_unicode=True).encode()
    answer = rest("PUT", f"/launch?impersonate=&dispatchId={name}", body, headers=YAML)
    assert (answer.status, answer.kind) == (201, "application/yaml")
    assert yaml.safe_load(answer.body)["dispatchId"] == name
    wait_for(rest, user, name)
    log = rest("GET", f"/monitoring/{user}/environments/{name}/logs/{PAYLOAD}-output.log")
    assert log.body == (" ".join(words[1:]) + "\n").encode()
    for path in (
        f"/monitoring/{user}/environments/{name}",
        f"/monitoring/{user}/environments/{name}/status",
        f"/monitoring/{user}/environments/{name}/logs",
        f"/monitoring/{user}/environments/{name}/management",
        f"/terminated/{user}/environments/{name}",
        f"/terminated/{user}/acls",
        "/terminated",
        "/admin/loggers",
    ):
        answer = rest("GET", path, headers=YAML)
        assert (answer.status, answer.kind) == (200, "application/yaml"), path
        if path != "/terminated":  # in which queries come and go
            assert yaml.safe_load(answer.body) == rest.json(path), path
    assert rest("DELETE", f"/monitoring/{user}/environments/{name}/management").status == 204


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json, application/yaml", "application/json"),
        ("application/json;q=0.5, application/yaml", "application/yaml"),
        ("application/yaml;q=0, */*", "application/json"),
        ("image/png", "application/json"),
        ("text/yaml", "application/yaml"),
        ("Application/YAML; charset=utf-8", "application/yaml"),
        ("", "application/json"),
    ],
)
def test_the_notation_that_is_asked_for(rest: Rest, accept: str, kind: str) -> None:
    assert rest("GET", "/running", headers={"Accept": accept}).kind == kind


@pytest.mark.parametrize(("purpose", "log"), [("Resources", "resources"), ("Queues", "queue")])
def test_a_query_is_an_environment_that_has_ended(
    rest: Rest, user: str, purpose: str, log: str
) -> None:
    answer = rest("PUT", "/launch?impersonate=", make_query(purpose))
    info = json.loads(answer.body)
    name = info["dispatchId"]
    one = f"/monitoring/{user}/environments/{name}"
    assert (info["state"], info["launchingUser"]) == ("COMPLETED", user)
    assert "job-id" not in info["additionalProperties"]
    sources = rest.json(f"{one}/logs")[f"DAI-HPC-{purpose}"]
    assert [source["name"] for source in sources] == [f"slurm-{log}-info"]
    text = rest("GET", f"{one}/logs/slurm-{log}-info")
    assert (text.status, text.kind) == (200, "application/octet-stream")
    assert len(text.body) == sources[0]["length"]
    assert isinstance(yaml.safe_load(text.body), dict)
    assert rest.json(one)["payloads"][0]["name"] == f"DAI-HPC-{purpose}"
    assert name in [entry["dispatchId"] for entry in rest.json("/terminated?eventLimit=0")["data"]]
    assert rest("GET", f"{one}/logs/{PAYLOAD}-error.log").status == 404
    assert rest("DELETE", f"{one}/logs").status == 204, "there is nothing of it that could go"
    assert rest("GET", f"{one}/logs/slurm-{log}-info").body == text.body
    assert rest("DELETE", f"/running/{user}/environments/{name}?force=true").status == 202
    assert rest("DELETE", f"{one}/management").status == 204
    assert rest("DELETE", f"{one}/management").status == 404
    assert rest("DELETE", f"/running/{user}/environments/{name}?force=true").status == 404


def test_logs_of_payloads_with_any_name(rest: Rest, new_id: Callable[[], str], user: str) -> None:
    payloads = {new_id(): name for name in ("a/b", "..", "{x}", "50%2F", "día 😀", "a?b#c;d")}
    for name, payload in payloads.items():
        launch(rest, make_manifest(["/bin/echo", "fine"], payload=payload), name)
    for name, payload in payloads.items():
        wait_for(rest, user, name)
        one = f"/monitoring/{user}/environments/{name}"
        sources = rest.json(f"{one}/logs")[payload]
        assert f"{payload}-output.log" in [source["name"] for source in sources]
        log = rest("GET", f"{one}/logs/{quote(payload, safe='')}-output.log")
        assert log.body == b"fine\n"
        assert rest("DELETE", f"{one}/management").status == 204


def test_answers_are_not_older_than_asked_for(rest: Rest, slurm: Slurm, user: str) -> None:
    """What has changed before the question is in the answer to who wants it fresh."""
    node = min(slurm.run(["sinfo", "-hN", "-o%N"]).stdout.split())

    def draining(age: str) -> bool:
        headers = {"Cache-Control": age}
        answer = rest("PUT", "/launch?impersonate=", make_query("Resources"), headers=headers)
        one = f"/monitoring/{user}/environments/{json.loads(answer.body)['dispatchId']}"
        text = rest("GET", f"{one}/logs/slurm-resources-info").body
        assert rest("DELETE", f"{one}/management").status == 204
        found = {each["name"]: each for each in yaml.safe_load(text)["nodes"]}
        return bool(found[node]["draining"])

    assert not draining("no-cache")
    slurm.run(["scontrol", "update", f"nodename={node}", "state=drain", "reason=test"])
    try:
        assert draining("no-cache")
        slurm.run(["scontrol", "update", f"nodename={node}", "state=resume"])
        assert not draining("max-age=0")
    finally:
        slurm.run(["scontrol", "update", f"nodename={node}", "state=resume"], check=False)


def test_a_status_is_not_older_than_asked_for(
    rest: Rest, slurm: Slurm, new_id: Callable[[], str], user: str
) -> None:
    name = new_id()
    manifest = make_manifest(["/bin/sleep", "600"], slurm_arguments=["--hold"])
    job_id = launch(rest, manifest, name)["additionalProperties"]["job-id"]
    path = f"/monitoring/{user}/environments/{name}/status?refresh=true"
    assert rest.json(path, headers={"Cache-Control": "no-cache"})["state"] == "PENDING"
    slurm.run(["scancel", job_id])
    assert rest.json(path, headers={"Cache-Control": "max-age=0"})["state"] in FINAL
    rest("DELETE", f"/monitoring/{user}/environments/{name}/management")
