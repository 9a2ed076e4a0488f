"""Environments over REST, with real jobs: what somebody sees of them and can do with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.lab.processes import wait_until
from tests.launcher.api.jobs import PAYLOAD, launch, status, wait_for
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest


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
