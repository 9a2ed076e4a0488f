"""Credentials for registries: where they are found, and that nobody else sees them."""

from __future__ import annotations

import base64
import json
import pwd
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import PullFailed
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.imagenames import parse_image_name
from shipway_agent.runtimes.registryauth import find_registry_auth, registry_header
from shipway_agent.runtimes.spec import Event, RegistryAuth
from tests.agent.runtimes.credentialhelper import helper_environment
from tests.agent.runtimes.steps import ignore, new_mark, processes_with, until

TOLD = 'echo \'{"Username": "helped", "Secret": "s3cret"}\''


async def choose(
    folder: Path, config: Mapping[str, Any], *, image: str = "r.io/img", **environ: str
) -> RegistryAuth | None:
    """Choose credentials where `docker login` has left *config*."""
    (folder / "config.json").write_text(json.dumps(config))
    found = {"DOCKER_CONFIG": str(folder), "PATH": "/nowhere", **environ}
    return await find_registry_auth(parse_image_name(image), None, found, ignore)


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io"])
async def test_hub_has_many_names_for_helpers_too(tmp_path: Path, key: str) -> None:
    wants_hub = f'test "$server" = https://index.docker.io/v1/ && {TOLD}'
    environ = helper_environment(tmp_path, wants_hub)
    found = await choose(tmp_path, {"credHelpers": {key: "lab"}}, image="org/img", **environ)
    assert found is not None
    assert (found.username, found.password) == ("helped", "s3cret")


async def test_the_store_is_asked_where_the_file_has_only_the_registrys_name(
    tmp_path: Path,
) -> None:
    config = {"auths": {"r.io": {}}, "credsStore": "lab"}
    found = await choose(tmp_path, config, **helper_environment(tmp_path, TOLD))
    assert found is not None
    assert found.username == "helped"


async def test_a_helper_that_knows_nothing_means_nobody(tmp_path: Path) -> None:
    script = "echo credentials not found in native keychain; exit 1"
    environ = helper_environment(tmp_path, script)
    assert await choose(tmp_path, {"credsStore": "lab"}, **environ) is None


async def test_a_token_of_a_helper_is_an_identity_token(tmp_path: Path) -> None:
    script = 'echo \'{"Username": "<token>", "Secret": "t0ken"}\''
    environ = helper_environment(tmp_path, script)
    found = await choose(tmp_path, {"credsStore": "lab"}, **environ)
    assert found == RegistryAuth(identity_token="t0ken", server_address="r.io")
    header = json.loads(base64.urlsafe_b64decode(registry_header(found)))
    assert header == {"identitytoken": "t0ken", "serveraddress": "r.io"}


async def test_a_helper_finds_the_settings_of_its_cloud(tmp_path: Path) -> None:
    script = 'echo "{\\"Username\\": \\"$AWS_PROFILE\\", \\"Secret\\": \\"x\\"}"'
    environ = {**helper_environment(tmp_path, script), "AWS_PROFILE": "team"}
    found = await choose(tmp_path, {"credsStore": "lab"}, **environ)
    assert found is not None
    assert found.username == "team"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (f"{TOLD}; exit 3", r"it failed \(exit status 3\); to see why, run"),
        (f"{TOLD} >&2; echo permission denied; exit 1", "permission denied"),
        ('echo \'{"Username": "helped", "secret": "s3cret"}\'', "no Username and Secret"),
        ("echo s3cret", "no Username and Secret"),
        ("echo '[\"s3cret\"]'", "no Username and Secret"),
    ],
)
async def test_what_a_helper_says_is_in_no_error(tmp_path: Path, script: str, words: str) -> None:
    environ = helper_environment(tmp_path, script)
    with pytest.raises(PullFailed, match=words) as caught:
        await choose(tmp_path, {"credHelpers": {"r.io": "lab"}}, **environ)
    assert "docker-credential-lab" in str(caught.value)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


async def test_a_helper_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    mark = new_mark()
    (tmp_path / "config.json").write_text('{"credsStore": "lab"}')
    environ = {**helper_environment(tmp_path, f"sleep {mark}"), "DOCKER_CONFIG": str(tmp_path)}
    with pytest.raises(PullFailed, match=r"docker-credential-lab gave no answer in 0\.2 s"):
        await find_registry_auth(
            parse_image_name("r.io/img"), None, environ, ignore, helper_limit_s=0.2
        )
    await until(lambda: not processes_with(mark))


async def test_a_helper_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(PullFailed, match="docker-credential-nowhere: No such file"):
        await choose(tmp_path, {"credHelpers": {"r.io": "nowhere"}})


async def test_a_service_without_home_finds_its_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".docker").mkdir()
    entry = {"auths": {"r.io": {"username": "u", "password": "p"}}}
    (tmp_path / ".docker/config.json").write_text(json.dumps(entry))
    me = pwd.getpwuid(0)
    monkeypatch.setattr(
        pwd, "getpwuid", lambda _: pwd.struct_passwd([*me[:5], str(tmp_path), me[6]])
    )
    found = await find_registry_auth(parse_image_name("r.io/img"), None, {}, ignore)
    assert found == RegistryAuth(username="u", password="p", server_address="r.io")


@pytest.mark.parametrize(
    "text", ['{"auths": {"r.io": "s3cret"}}', '{"auths": ["s3cret"]}', '{"credHelpers": null}']
)
async def test_a_file_of_another_form_means_nobody(tmp_path: Path, text: str) -> None:
    assert await choose(tmp_path, json.loads(text)) is None


async def test_the_words_of_a_broken_file_are_in_no_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"r.io": {"auth": s3cret}}}')
    with pytest.raises(PullFailed, match=r"config\.json: it is no JSON") as caught:
        await find_registry_auth(
            parse_image_name("r.io/img"), None, {"DOCKER_CONFIG": str(tmp_path)}, ignore
        )
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


async def test_a_login_in_an_address_is_not_told(tmp_path: Path) -> None:
    events: list[Event] = []
    given = RegistryAuth(username="u", password="p", server_address="https://u:s3cret@other.io/v2")
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    await find_registry_auth(parse_image_name("r.io/img"), given, environ, events.append)
    assert "other.io did not match the image serverAddress r.io" in events[0].text
    assert "s3cret" not in repr(events)


def test_an_error_repeats_none_of_what_was_shown() -> None:
    auth = RegistryAuth(
        username="bot", password="s3cret", identity_token="t0ken", registry_token="r3g"
    )
    pair = base64.b64encode(b"bot:s3cret").decode()
    words = f"denied: bot:s3cret, Basic {pair}, t0ken, r3g, {registry_header(auth)}"
    told = str(pull_error(parse_image_name("r.io/x"), words, auth))
    assert told.endswith("denied: bot:***, Basic ***, ***, ***, ***")
