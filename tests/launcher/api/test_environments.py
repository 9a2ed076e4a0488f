"""Environments over REST, with real jobs: what somebody sees of them and can do with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.lab.processes import wait_until
from tests.lab.slurm import Slurm
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest, make_query

FINAL = {"TERMINATED", "COMPLETED", "FAILED", "MISSING"}
YAML = {"Accept": "application/yaml", "Content-Type": "application/yaml"}
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


@pytest.fixture(scope="module")
def ended(rest: Rest) -> Iterator[str]:
    """A job that has completed; its output was `line 1` to `line 10`."""
    name = "ended.1"
    words = ["/bin/sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done"]
    owner = launch(rest, make_manifest(words), name)["launchingUser"]
    assert wait_for(rest, owner, name)["state"] == "COMPLETED"
    yield name
    rest("DELETE", f"/monitoring/{owner}/environments/{name}/management")


@pytest.fixture(scope="module")
def live(rest: Rest) -> Iterator[str]:
    """A job that runs."""
    name = "live.1"
    environment = {"NOTEBOOK_PORT": "8888", "TENSORBOARD_PORT": "6006", "SECRET_KEY": "hush"}
    words = ["/bin/sh", "-c", "echo begun; exec sleep 600"]
    owner = launch(rest, make_manifest(words, environment=environment), name)["launchingUser"]
    log = f"/monitoring/{owner}/environments/{name}/logs/{PAYLOAD}-output.log"
    wait_until(lambda: rest("GET", log).body == b"begun\n", "the job prints", limit_s=60)
    wait_for(rest, owner, name, "RUNNING")
    yield name
    rest("DELETE", f"/monitoring/{owner}/environments/{name}/management")


def test_a_launch_is_answered_with_all_that_a_master_reads(
    rest: Rest, new_id: Callable[[], str], user: str
) -> None:
    name = new_id()
    info = launch(rest, make_manifest(), name)
    assert info["dispatchId"] == name
    assert info["launchingUser"] == user
    assert info["state"] in ("PENDING", "RUNNING")
    assert info["launchedCapsuleReference"] == {"owner": user, "name": "det", "version": "unknown"}
    assert info["payloadStates"] == {PAYLOAD: info["state"]}
    made = datetime.fromisoformat(info["lastUpdated"])
    assert abs(made - datetime.now(UTC)) < timedelta(minutes=1)
    wait_for(rest, user, name)
    assert rest("DELETE", f"/terminated/{user}/environments/{name}").status == 204


def test_without_an_id_one_is_made(rest: Rest, user: str) -> None:
    answer = rest("PUT", "/launch", make_manifest())
    assert answer.status == 201
    name = json.loads(answer.body)["dispatchId"]
    assert rest("DELETE", f"/monitoring/{user}/environments/{name}/management").status == 204
    assert rest("GET", f"/monitoring/{user}/environments/{name}/status").status == 404


def test_a_repeated_launch_gives_the_job_that_there_is(rest: Rest, live: str, user: str) -> None:
    before = status(rest, user, live)
    words = ["/bin/sh", "-c", "echo begun; exec sleep 600"]
    environment = {"NOTEBOOK_PORT": "8888", "TENSORBOARD_PORT": "6006", "SECRET_KEY": "hush"}
    again = launch(rest, make_manifest(words, environment=environment), live)
    assert again["additionalProperties"] == before["additionalProperties"]
    other = rest("PUT", f"/launch?impersonate=&dispatchId={live}", make_manifest())
    assert other.status == 400
    assert "another launch" in other.detail


def test_an_answer_at_once_is_followed_by_a_job(
    rest: Rest, new_id: Callable[[], str], user: str
) -> None:
    name = new_id()
    answer = rest("PUT", f"/launch/async?impersonate=&dispatchId={name}", make_manifest())
    assert (answer.status, json.loads(answer.body)["state"]) == (202, "PENDING")
    assert wait_for(rest, user, name)["state"] == "COMPLETED"
    assert rest("DELETE", f"/monitoring/{user}/environments/{name}/management").status == 204


def test_a_launch_that_slurm_refuses_later_is_told_by_its_state(
    rest: Rest, new_id: Callable[[], str], user: str
) -> None:
    name = new_id()
    manifest = make_manifest(configuration={"queue": "nowhere"})
    assert rest("PUT", f"/launch/async?impersonate=&dispatchId={name}", manifest).status == 202
    info = wait_for(rest, user, name, "FAILED")
    assert any("nowhere" in event["message"] for event in info["events"]), info
    at_once = rest("PUT", f"/launch?impersonate=&dispatchId={name}.2", manifest)
    assert at_once.status == 500
    assert "sbatch: error:" in at_once.detail
    for one in (name, f"{name}.2"):
        assert rest("DELETE", f"/terminated/{user}/environments/{one}").status == 204


def test_what_was_launched_is_shown_without_its_secrets(rest: Rest, live: str, user: str) -> None:
    for stage in ("monitoring", "running"):
        answer = rest("GET", f"/{stage}/{user}/environments/{live}")
        assert b"hush" not in answer.body
        manifest = json.loads(answer.body)
        assert manifest["payloads"][0]["name"] == PAYLOAD
        metadata = manifest["dispatchMetadata"]
        assert (metadata["owner"], "terminated" in metadata) == (user, False)
        assert [page["type"] for page in metadata["userInterfaces"]] == ["notebook", "tensorboard"]


def test_each_stage_says_where_the_other_is(rest: Rest, live: str, ended: str, user: str) -> None:
    for wrong, name, right in (("running", ended, "terminated"), ("terminated", live, "running")):
        answer = rest("GET", f"/{wrong}/{user}/environments/{name}")
        assert answer.status == 301
        assert answer.headers["Location"] == f"/{right}/{user}/environments/{name}"
        assert rest("GET", answer.headers["Location"]).status == 200
    assert rest("GET", f"/running/{user}/environments/{ended}/uis").status == 301
    assert rest("DELETE", f"/terminated/{user}/environments/{live}").status == 404
    assert status(rest, user, live)["state"] == "RUNNING"


def test_the_pages_of_a_running_job(rest: Rest, live: str, user: str) -> None:
    pages = rest.json(f"/running/{user}/environments/{live}/uis")
    assert list(pages) == [PAYLOAD]
    assert {page["location"].rpartition(":")[2] for page in pages[PAYLOAD]} == {"8888/", "6006/"}


def test_an_end_that_is_asked_for_again_changes_nothing(rest: Rest, ended: str, user: str) -> None:
    before = status(rest, user, ended)
    for path in ("?force=true", "", "/async?force=false"):
        answer = rest("DELETE", f"/running/{user}/environments/{ended}{path}")
        assert (answer.status, json.loads(answer.body)) == (202, before)


def test_an_end_without_waiting(rest: Rest, new_id: Callable[[], str], user: str) -> None:
    name = new_id()
    launch(rest, make_manifest(["/bin/sleep", "600"]), name)
    answer = rest("DELETE", f"/running/{user}/environments/{name}/async?force=true")
    assert (answer.status, json.loads(answer.body)["state"]) == (202, "TERMINATING")
    assert wait_for(rest, user, name)["state"] == "TERMINATED"
    assert rest("DELETE", f"/terminated/{user}/environments/{name}").status == 204
    assert rest("DELETE", f"/terminated/{user}/environments/{name}").status == 404


def test_all_of_an_owner_end_and_go(
    rest: Rest, new_id: Callable[[], str], ended: str, user: str
) -> None:
    """The jobs are another owner's only by the path: nobody here can act for somebody else."""
    assert rest("DELETE", "/running/nobody?force=true").status == 204
    assert rest("DELETE", "/terminated/nobody").status == 204
    names = [entry["dispatchId"] for entry in rest.json(f"/terminated/{user}")["data"]]
    assert ended in names


@pytest.mark.parametrize("path", ["/running", "/running/{user}"])
def test_lists_of_what_runs(rest: Rest, live: str, ended: str, user: str, path: str) -> None:
    entries = rest.json(path.format(user=user))["data"]
    found = {entry["dispatchId"]: entry for entry in entries}
    assert ended not in found
    assert found[live]["state"] == "RUNNING"
    assert isinstance(found[live]["additionalProperties"]["job-id"], str)
    assert rest.json(f"{path.format(user=user)}?state=PENDING")["data"] == []
    running = rest.json(f"{path.format(user=user)}?state=PENDING&state=RUNNING&eventLimit=0")
    assert [entry["events"] for entry in running["data"]] == [[]] * len(running["data"])
    assert live in [entry["dispatchId"] for entry in running["data"]]


def test_parts_of_lists(rest: Rest, ended: str, new_id: Callable[[], str], user: str) -> None:
    names = [ended]
    for _ in range(2):
        name = new_id()
        launch(rest, make_manifest(), name)
        names.append(name)
    for name in names:
        wait_for(rest, user, name)

    def shown(query: str) -> list[str]:
        entries = rest.json(f"/terminated/{user}?{query}")["data"]
        return [entry["dispatchId"] for entry in entries if entry["dispatchId"] in names]

    try:
        assert shown("") == names, "oldest first"
        assert shown("reverse=true") == names[::-1]
        assert shown("reverse=True&limit=2") == names[:0:-1]
        assert shown("limit=1") == names[:1]
        assert shown("limit=0") == []
        assert shown("offset=1&limit=1") == names[1:2]
        assert shown("offset=99") == []
        assert shown("state=FAILED") == []
    finally:
        for name in names[1:]:
            rest("DELETE", f"/monitoring/{user}/environments/{name}/management")


def test_as_many_events_as_are_asked_for(rest: Rest, ended: str, user: str) -> None:
    path = f"/monitoring/{user}/environments/{ended}/status"
    events = rest.json(path)["events"]
    assert events
    assert rest.json(f"{path}?eventLimit=1")["events"] == events[-1:]
    assert rest.json(f"{path}?eventLimit=0")["events"] == []
    assert rest.json(f"{path}?eventLimit=99")["events"] == events
    for query in ("eventLimit=-1", "refresh=perhaps", "eventLimit=2147483648"):
        answer = rest("GET", f"{path}?{query}")
        assert answer.status == 400
        assert query.partition("=")[0] in answer.detail


def test_what_can_be_done_with_an_environment(rest: Rest, live: str, user: str) -> None:
    answer = rest.json(f"/monitoring/{user}/environments/{live}/management")
    assert (answer["canManage"], answer["reason"]) == (True, "")
    assert answer["info"]["dispatchId"] == live


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
