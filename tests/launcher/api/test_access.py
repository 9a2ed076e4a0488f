"""Who may do what: owners, other users, access lists, tokens for reading only, second masters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lab.processes import wait_until
from tests.launcher.api.conftest import MakesTokens
from tests.launcher.api.rest import Rest
from tests.launcher.manifests import make_manifest, make_query

LOG = "ai_cmd-9d0c7a3e-output.log"
READS = ["/status", "", "/logs", f"/logs/{LOG}", "/management"]
NOBODY: Mapping[str, Any] = {
    level: {"allowed": [], "forbidden": []} for level in ("read", "write", "admin")
}


@pytest.fixture(scope="module")
def live(rest: Rest) -> Iterator[str]:
    """A job that runs, of the launcher's own user."""
    manifest = make_manifest(["/bin/sleep", "600"])
    answer = rest("PUT", "/launch?impersonate=&dispatchId=access.1", manifest)
    environment = f"{json.loads(answer.body)['launchingUser']}/environments/access.1"
    yield environment
    rest("DELETE", f"/monitoring/{environment}/management")


@pytest.fixture
def lists(rest: Rest, user: str) -> Iterator[Callable[..., None]]:
    """Set the access lists of running environments; they are empty before and after."""

    def put(**levels: Any) -> None:
        assert rest("PUT", f"/running/{user}/acls", levels).status == 204

    yield put
    put()
    assert rest("PUT", f"/terminated/{user}/acls", {}).status == 204


def may_read(rest: Rest, live: str, token: str) -> bool:
    found = {rest("GET", f"/monitoring/{live}{path}", token=token).status for path in READS}
    assert found in ({200}, {403}), found
    owner = live.partition("/")[0]
    of_owner = rest("GET", f"/running/{owner}", token=token)
    assert of_owner.status == min(found)
    of_all = json.loads(rest("GET", "/running", token=token).body)["data"]
    assert bool(of_all) is (found == {200})
    return found == {200}


def may_write(rest: Rest, live: str, token: str) -> bool:
    """Ask for something that changes nothing here."""
    found = {
        rest("DELETE", f"/monitoring/{live}/logs/{LOG}", token=token).status,
        rest("DELETE", f"/monitoring/{live}/logs", token=token).status,
    }
    assert found in ({204}, {403}), found
    return found == {204}


def may_share(rest: Rest, live: str, token: str) -> bool:
    acls = f"/terminated/{live.partition('/')[0]}/acls"
    before = rest.json(acls)
    found = rest("PUT", acls, before, token=token).status
    assert found in (204, 403)
    return found == 204


def test_others_see_and_change_nothing(rest: Rest, live: str, token_of: MakesTokens) -> None:
    token = token_of("mallory")
    owner = live.partition("/")[0]
    assert not may_read(rest, live, token)
    assert not may_write(rest, live, token)
    assert not may_share(rest, live, token)
    for method, path in (
        ("DELETE", f"/running/{live}?force=true"),
        ("DELETE", f"/running/{live}/async"),
        ("DELETE", f"/monitoring/{live}/management"),
        ("DELETE", f"/terminated/{live}"),
        ("DELETE", f"/running/{owner}"),
        ("DELETE", f"/terminated/{owner}"),
        ("GET", f"/running/{live}/uis"),
        ("GET", f"/terminated/{owner}"),
        ("GET", f"/running/{owner}/acls"),
        ("GET", "/admin/log-level"),
        ("GET", "/admin/loggers"),
        ("GET", "/admin/loggers/root"),
    ):
        answer = rest(method, path, token=token)
        assert answer.status == 403, path
        assert answer.detail
    # Somebody who may not see them learns not even which there are.
    assert rest("GET", f"/monitoring/{owner}/environments/none/status", token=token).status == 403
    assert rest("GET", f"/monitoring/{live}/status").status == 200


def test_a_user_is_oneself_and_nobody_else(rest: Rest, token_of: MakesTokens) -> None:
    token = token_of("mallory")
    answer = rest("PUT", "/launch?impersonate=root", make_manifest(), token=token)
    assert answer.status == 403
    assert "impersonate" in answer.detail
    answer = rest("PUT", "/launch?impersonate=", make_manifest(), token=token)
    assert answer.status == 400, "as mallory, whom this launcher cannot act for"
    assert "mallory" in answer.detail
    assert json.loads(rest("GET", "/running", token=token).body) == {"data": []}
    info = json.loads(rest("PUT", "/launch", make_query("Queues"), token=token).body)
    assert info["launchingUser"] == "mallory"
    query = f"mallory/environments/{info['dispatchId']}"
    assert rest("GET", f"/monitoring/{query}/logs/slurm-queue-info", token=token).status == 200
    other = token_of("bob")
    assert rest("GET", f"/monitoring/{query}/logs/slurm-queue-info", token=other).status == 403
    assert rest("DELETE", f"/monitoring/{query}/management", token=token).status == 204


def test_lists_let_others_in(
    rest: Rest, live: str, token_of: MakesTokens, lists: Callable[..., None]
) -> None:
    bob, eve = token_of("bob"), token_of("eve")
    lists(read={"allowed": ["bob"]})
    assert may_read(rest, live, bob)
    assert not may_write(rest, live, bob)
    assert not may_read(rest, live, eve)
    lists(read={"allowed": ["*"], "forbidden": ["eve"]}, write={"allowed": ["bob"]})
    assert may_read(rest, live, bob)
    assert may_write(rest, live, bob)
    assert not may_share(rest, live, bob)
    assert not may_read(rest, live, eve)
    lists()
    assert not may_read(rest, live, bob)


def test_who_may_administer_may_share(
    rest: Rest, live: str, user: str, token_of: MakesTokens, lists: Callable[..., None]
) -> None:
    bob = token_of("bob")
    lists(admin={"allowed": ["bob"]})
    assert may_read(rest, live, bob)
    assert may_write(rest, live, bob)
    assert not may_share(rest, live, bob), "the lists of what has ended are others"
    assert rest("PUT", f"/running/{user}/acls", {}, token=bob).status == 204
    assert not may_read(rest, live, bob)


def test_lists_come_back_as_they_were_sent(
    rest: Rest, user: str, lists: Callable[..., None]
) -> None:
    lists(write={"allowed": ["bob"], "forbidden": ["*"]}, read=None)
    write = {"allowed": ["bob"], "forbidden": ["*"]}
    assert rest.json(f"/running/{user}/acls") == {**NOBODY, "write": write}
    assert rest.json(f"/terminated/{user}/acls") == NOBODY
    assert rest.json("/running/never-seen/acls") == NOBODY
    yaml = b"read:\n  allowed: ['*']\n"
    headers = {"Content-Type": "application/yaml"}
    assert rest("PUT", f"/terminated/{user}/acls", yaml, headers=headers).status == 204
    read = {"allowed": ["*"], "forbidden": []}
    assert rest.json(f"/terminated/{user}/acls") == {**NOBODY, "read": read}
    assert rest.json(f"/running/{user}/acls") == {**NOBODY, "write": write}


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "JSON"),
        (b"[]", "body"),
        (b'"read"', "body"),
        (b'{"read": ["bob"]}', "read"),
        (b'{"read": {"allowed": "bob"}}', "allowed"),
        (b'{"read": {"allowed": [7]}}', "allowed"),
        (b'{"write": {"forbidden": [""]}}', "forbidden"),
        (b'{"write": {"forbidden": ["a\\nb"]}}', "forbidden"),
        (b'{"raed": {"allowed": ["bob"]}}', "raed"),
    ],
)
def test_lists_that_are_none(
    rest: Rest, user: str, body: bytes, word: str, lists: Callable[..., None]
) -> None:
    lists(read={"allowed": ["bob"]})
    answer = rest("PUT", f"/running/{user}/acls", body)
    assert answer.status == 400
    assert word in answer.detail
    assert rest.json(f"/running/{user}/acls")["read"]["allowed"] == ["bob"], "nothing was changed"


@pytest.mark.parametrize("is_admin", [False, True])
def test_a_token_for_reading_reads(
    rest: Rest, live: str, user: str, token_of: MakesTokens, is_admin: bool
) -> None:
    token = token_of(user, is_read_only=True, is_admin=is_admin)
    assert may_read(rest, live, token)
    for method, path, body in (
        ("PUT", "/launch?impersonate=", make_manifest()),
        ("PUT", "/launch/async?impersonate=", make_manifest()),
        ("PUT", f"/launch/credentials/{user}/x", b"x"),
        ("DELETE", f"/launch/credentials/{user}/x", None),
        ("DELETE", f"/running/{live}", None),
        ("DELETE", f"/running/{live}/async", None),
        ("DELETE", f"/running/{user}", None),
        ("DELETE", f"/terminated/{user}", None),
        ("DELETE", f"/monitoring/{live}/management", None),
        ("DELETE", f"/monitoring/{live}/logs", None),
        ("DELETE", f"/monitoring/{live}/logs/{LOG}", None),
        ("PUT", f"/running/{user}/acls", {}),
        ("PUT", f"/terminated/{user}/acls", {}),
        ("PUT", "/admin/log-level", "DEBUG"),
        ("PUT", "/admin/loggers", {}),
        ("PUT", "/admin/loggers/root", "DEBUG"),
    ):
        assert rest(method, path, body, token=token).status == 403, path
    assert rest("GET", "/admin/log-level", token=token).status == (200 if is_admin else 403)
    answer = rest.json(f"/monitoring/{live}/management", token=token)
    assert answer["canManage"] is False
    assert answer["reason"]
    query = rest("PUT", "/launch?impersonate=", make_query("Resources"), token=token)
    assert query.status == 201, "a question changes nothing"
    path = f"/monitoring/{user}/environments/{json.loads(query.body)['dispatchId']}"
    assert rest("GET", f"{path}/logs/slurm-resources-info", token=token).status == 200
    assert rest("DELETE", f"{path}/management", token=token).status == 204


def test_a_second_master_sees_its_own(
    rest: Rest, live: str, user: str, token_of: MakesTokens
) -> None:
    token = token_of(user, is_admin=True, scope="second")
    assert json.loads(rest("GET", "/running", token=token).body) == {"data": []}
    name = "access.second"
    path = f"/launch?impersonate=&dispatchId={name}"
    assert rest("PUT", path, make_manifest(["/bin/sleep", "600"]), token=token).status == 201
    seen = json.loads(rest("GET", "/running", token=token).body)["data"]
    assert [entry["dispatchId"] for entry in seen] == [name]
    assert name not in [entry["dispatchId"] for entry in rest.json("/running")["data"]]
    assert rest("DELETE", f"/running/{user}/environments/{name}", token=token).status == 202
    wait_until(
        lambda: (
            rest.json(f"/monitoring/{user}/environments/{name}/status?refresh=true")["state"]
            == "TERMINATED"
        ),
        "it ends",
        limit_s=60,
    )
    assert name not in [entry["dispatchId"] for entry in rest.json("/terminated")["data"]]
    assert rest("DELETE", f"/terminated/{user}/environments/{name}", token=token).status == 204


def test_credentials_are_kept_and_never_shown(
    rest: Rest, storage: Path, token_of: MakesTokens
) -> None:
    alice, bob = token_of("alice"), token_of("bob")
    path = "/launch/credentials/alice/registry.json"
    secret = bytes(range(256))
    assert rest("HEAD", path, token=alice).status == 404
    assert rest("PUT", path, b"first", token=alice).status == 201
    assert rest("PUT", path, secret, token=alice).status == 201
    file = storage / "credentials/alice/registry.json"
    assert file.read_bytes() == secret
    assert [each.stat().st_mode & 0o777 for each in (file, file.parent)] == [0o600, 0o700]
    assert rest("HEAD", path, token=alice).status == 204
    assert rest("HEAD", path).status == 204, "for the administrator, too"
    assert rest("GET", path, token=alice).status == 405
    assert rest("HEAD", path, token=bob).status == 404
    assert rest("PUT", path, b"mine", token=bob).status == 403
    assert rest("DELETE", path, token=bob).status == 403
    assert file.read_bytes() == secret
    assert rest("DELETE", path, token=alice).status == 204
    assert rest("DELETE", path, token=alice).status == 404
    assert rest("HEAD", path, token=alice).status == 404
    assert not file.exists()


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fx", ".hidden", "-rf", "a%20b", "a%00", "x" * 101])
def test_names_of_credentials_that_cannot_be(rest: Rest, user: str, name: str) -> None:
    path = f"/launch/credentials/{user}/{name}"
    assert rest("PUT", path, b"x").status == 400
    assert rest("HEAD", path).status == 404
    assert rest("DELETE", path).status == 404
    assert rest("PUT", f"/launch/credentials/{name}/x", b"x").status == 400


def test_a_credential_is_small(rest: Rest, user: str) -> None:
    answer = rest("PUT", f"/launch/credentials/{user}/large", b"x" * ((1 << 20) + 1))
    assert answer.status == 413
    assert rest("HEAD", f"/launch/credentials/{user}/large").status == 404
