"""Image names, credentials and progress: how Docker and the registries read and tell them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import ImageNotFound, PullFailed, SpecUnsupported
from shipway_agent.runtimes.apptainerforms import resolve_image
from shipway_agent.runtimes.dockerpull import pull_error
from shipway_agent.runtimes.imagenames import parse_image_name, registry_domain
from shipway_agent.runtimes.pullprogress import PullProgress
from shipway_agent.runtimes.registryauth import (
    auth_file,
    find_registry_auth,
    registry_header,
)
from shipway_agent.runtimes.spec import (
    ContainerId,
    ContainerSpec,
    Event,
    RegistryAuth,
)

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "repository", "version"),
    [
        ("img", "docker.io/library/img", "latest"),
        ("img:1", "docker.io/library/img", "1"),
        ("org/img", "docker.io/org/img", "latest"),
        ("docker.io/org/img:a.B_c-1", "docker.io/org/img", "a.B_c-1"),
        ("index.docker.io/org/img", "docker.io/org/img", "latest"),
        ("localhost/img", "localhost/img", "latest"),
        ("localhost:5000/a/b/c:2", "localhost:5000/a/b/c", "2"),
        ("registry.example.com/ml/env:1.4", "registry.example.com/ml/env", "1.4"),
        ("host:5000/img", "host:5000/img", "latest"),
        (f"img@{DIGEST}", "docker.io/library/img", DIGEST),
        (f"r.io/img:1@{DIGEST}", "r.io/img", DIGEST),
        ("[::1]:5000/img:2", "[::1]:5000/img", "2"),
    ],
)
def test_an_image_name_is_completed(text: str, repository: str, version: str) -> None:
    name = parse_image_name(text)
    assert (name.repository, name.version) == (repository, version)


NO_NAMES = (
    *("", "Img", "a b", "a//b", "img:", "img:a b", "img@sha256:12", "img@", "/img", "a/../b", "-x"),
    *("r.io/$(id)", "img\n", "img?x=1", "img#x", "a" * 300),
)


@pytest.mark.parametrize("text", NO_NAMES)
def test_what_is_no_image_name_is_refused(text: str) -> None:
    with pytest.raises(SpecUnsupported, match="error parsing image name"):
        parse_image_name(text)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("http://r.example:5000/v2/", "r.example:5000"),
        ("r.example", "r.example"),
    ],
)
def test_a_registrys_address_has_a_domain(address: str, domain: str) -> None:
    assert registry_domain(address) == domain


async def choose(
    given: RegistryAuth | None, config: Mapping[str, Any] | None, tmp_path: Path, image: str
) -> tuple[RegistryAuth | None, list[Event]]:
    """Choose credentials with a config.json of *config*."""
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    events: list[Event] = []
    environ = {"DOCKER_CONFIG": str(tmp_path), "PATH": "/nowhere"}
    found = await find_registry_auth(parse_image_name(image), given, environ, events.append)
    return found, events


def pair(text: str) -> str:
    """Return the combined form of a login."""
    return base64.b64encode(text.encode()).decode()


async def test_a_login_without_address_is_used_with_a_warning(tmp_path: Path) -> None:
    given = RegistryAuth(auth=pair("bot:s3:cret"))
    found, events = await choose(given, None, tmp_path, "r.io/img")
    assert found is not None
    assert (found.username, found.password) == ("bot", "s3:cret")
    assert "without registry_auth.serveraddress" in events[0].text


async def test_hub_has_many_names(tmp_path: Path) -> None:
    given = RegistryAuth(username="a", password="b", server_address="https://index.docker.io/v1/")
    assert (await choose(given, None, tmp_path, "org/img"))[0] == given
    config = {"auths": {"https://index.docker.io/v1/": {"auth": pair("hub:pw")}}}
    found, events = await choose(None, config, tmp_path, "img")
    assert found is not None
    assert found.username == "hub"
    assert events[0].text.startswith("domain 'docker.io' found in 'auths' ")


async def test_no_file_means_nobody(tmp_path: Path) -> None:
    assert await choose(None, None, tmp_path, "img") == (None, [])
    assert await choose(None, {"auths": {"r.io": {}}}, tmp_path, "r.io/img") == (None, [])


@pytest.mark.parametrize("text", ["[1]", "{", '{"auths": {"r.io": {"auth": "!!"}}}'])
async def test_a_file_that_cannot_be_read_fails_the_pull(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(PullFailed, match=r"authentication|credentials"):
        await choose(None, None, tmp_path, "r.io/img")


def test_credentials_are_told_in_the_forms_of_engines_and_never_printed() -> None:
    auth = RegistryAuth(username="u", password="s3cret", server_address="r.io")
    header = json.loads(base64.urlsafe_b64decode(registry_header(auth)))
    assert header == {"username": "u", "password": "s3cret", "serveraddress": "r.io"}
    assert json.loads(base64.urlsafe_b64decode(registry_header(None))) == {}
    file = json.loads(auth_file(auth, parse_image_name("r.io/img")))
    assert file == {"auths": {"r.io": {"auth": pair("u:s3cret")}}}
    spec = ContainerSpec(
        id=ContainerId("c"),
        image="img",
        argv=(),
        registry_auth=auth,
        environment={"TOKEN": "s3cret"},
    )
    assert "s3cret" not in repr(spec)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("manifest for r.io/x:1 not found: manifest unknown", ImageNotFound),
        ("pull access denied for x, repository does not exist", ImageNotFound),
        ("Error: reading manifest: unauthorized: authentication required", ImageNotFound),
        ("Get https://r.io/v2/: net/http: TLS handshake timeout", PullFailed),
        ("write /var/lib/docker/tmp/x: no space left on device", PullFailed),
        ("toomanyrequests: You have reached your pull rate limit", PullFailed),
    ],
)
def test_an_engines_words_decide_whether_trying_again_helps(
    words: str, kind: type[Exception]
) -> None:
    error = pull_error(parse_image_name("r.io/x:1"), words)
    assert type(error) is kind
    assert str(error) == f"error pulling image: r.io/x:1: {words}"


def test_progress_is_told_as_the_original_does() -> None:
    progress = PullProgress(clock=lambda: 0)
    assert progress.event().text == f"[{' ' * 40}] Downloaded: 0.0MB, Extracted 0.0MB"
    progress.update({"id": "a", "status": "Pulling fs layer"})
    progress.update({"id": "b", "status": "Waiting"})
    detail = {"current": 50_000_000, "total": 100_000_000}
    progress.update({"id": "a", "status": "Downloading", "progressDetail": detail})
    assert progress.event().text == f"[=====>{' ' * 34}] Downloaded: 50.0MB, Extracted 0.0MB"
    progress.update({"id": "a", "status": "Pull complete"})
    assert (
        progress.event().text == f"[{'=' * 20}>{' ' * 19}] Downloaded: 100.0MB, Extracted 100.0MB"
    )
    detail = {"current": 2_000_000, "total": 2_000_000}
    progress.update({"id": "b", "status": "Extracting", "progressDetail": detail})
    progress.update({"id": "b", "status": "Pull complete"})
    assert progress.event().text == f"[{'=' * 40}] Downloaded: 102.0MB, Extracted 102.0MB"


def test_progress_comes_once_a_second_at_most() -> None:
    now = 0.0
    progress = PullProgress(clock=lambda: now)
    message = {"id": "a", "status": "Downloading", "progressDetail": {"current": 1, "total": 9}}
    assert progress.update(message) is not None
    now = 0.9
    assert progress.update(message) is None
    now = 1.0
    assert progress.update(message) is not None
    assert progress.update({"status": "Digest: sha256:…"}) is None


@pytest.mark.parametrize(
    ("image", "resolved"),
    [
        ("docker://r.io/img:1", "docker://r.io/img:1"),
        ("oras://r.io/img", "oras://r.io/img"),
        ("docker-archive:/x.tar", "docker-archive:/x.tar"),
        ("org/img:1", "{root}/org/img:1"),
        ("org/other:1", "docker://org/other:1"),
        ("../secret", "docker://../secret"),
        ("host:5000/img", "docker://host:5000/img"),
    ],
)
def test_apptainer_images_are_looked_up_in_order(tmp_path: Path, image: str, resolved: str) -> None:
    root = tmp_path / "root"
    (root / "org").mkdir(parents=True)
    (root / "org/img:1").touch()
    (tmp_path / "secret").touch()
    spec = ContainerSpec(id=ContainerId("c"), image=image, argv=())
    assert resolve_image(spec, root) == resolved.format(root=root)
