"""Images on their way from a registry, with real engines and a registry on loopback."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.errors import ContainerRuntimeError, ImageNotFound, PullFailed
from shipway_agent.runtimes.spec import (
    ContainerSpec,
    Event,
    EventKind,
    RegistryAuth,
    Runtime,
)
from tests.agent.runtimes.conftest import Case
from tests.agent.runtimes.imageregistry import ImageRegistry, serving
from tests.agent.runtimes.steps import ignore, run

MakeSpec = Callable[..., ContainerSpec]


async def open_for(case: Case, registry: ImageRegistry, tmp_path: Path) -> Runtime:
    """Open the runtime so that it reaches *registry* without TLS; Docker does so by itself."""
    path = tmp_path / "registries.conf"
    path.write_text(f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n')
    environ = {**case.options.environ, "CONTAINERS_REGISTRIES_CONF": str(path)}
    return await case.open(environ=environ)


@pytest.mark.parametrize("case_name", ["docker", "podman"], indirect=True)
async def test_an_image_is_fetched_once_and_runs(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    async with serving(ImageRegistry()) as registry:
        runtime = await open_for(case, registry, tmp_path)
        spec = make_spec(image=registry.image, argv=("sh", "-c", "echo here"))
        first: list[Event] = []
        await runtime.pull(spec, first.append)
        assert first[0].kind is EventKind.PULL_BEGAN
        assert first[0].text.startswith("image not found, pulling image: ")
        assert (await run(runtime, spec)).stdout == b"here\n"

        second: list[Event] = []
        await runtime.pull(spec, second.append)
        assert [event.kind for event in second] == [EventKind.PULL_SKIPPED]

        third: list[Event] = []
        registry.asked.clear()
        await runtime.pull(replace(spec, force_pull=True), third.append)
        assert third[0].text.startswith("image present, but force_pull_image is set")
        assert "/v2/lab/img/manifests/1" in registry.asked


@pytest.mark.parametrize("case_name", ["docker"], indirect=True)
async def test_progress_ends_at_all_of_it(case: Case, make_spec: MakeSpec, tmp_path: Path) -> None:
    async with serving(ImageRegistry()) as registry:
        runtime = await open_for(case, registry, tmp_path)
        events: list[Event] = []
        await runtime.pull(make_spec(image=registry.image), events.append)
    last = events[-1]
    assert last.kind is EventKind.PULL_PROGRESS
    assert last.fraction == 1.0
    assert last.text.startswith(f"[{'=' * 40}] Downloaded: ")


@pytest.mark.parametrize("case_name", ["docker", "podman"], indirect=True)
async def test_an_image_that_the_registry_does_not_have_is_not_found(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    async with serving(ImageRegistry()) as registry:
        runtime = await open_for(case, registry, tmp_path)
        spec = make_spec(image=f"{registry.address}/lab/other:2")
        with pytest.raises(ImageNotFound, match="manifest unknown"):
            await runtime.pull(spec, ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman"], indirect=True)
async def test_a_layer_that_does_not_come_is_an_error_in_the_registrys_words(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    async with serving(ImageRegistry(lost_layer=True)) as registry:
        runtime = await open_for(case, registry, tmp_path)
        with pytest.raises(PullFailed, match="blob"):
            await runtime.pull(make_spec(image=registry.image), ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman"], indirect=True)
async def test_the_tasks_login_is_shown_to_its_own_registry_only(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    login = ("bot", 'p:a"ß$')
    async with serving(ImageRegistry(login=login)) as registry:
        runtime = await open_for(case, registry, tmp_path)
        spec = make_spec(image=registry.image)
        auth = RegistryAuth(
            username=login[0], password=login[1], server_address=f"http://{registry.address}/v2/"
        )
        other = replace(auth, server_address="registry.example.com")
        events: list[Event] = []
        with pytest.raises(ContainerRuntimeError) as caught:
            await runtime.pull(replace(spec, registry_auth=other), events.append)
        assert "did not match the image serverAddress" in events[0].text
        assert login[1] not in f"{caught.value}{events}"
        await runtime.pull(replace(spec, registry_auth=auth), ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman"], indirect=True)
async def test_the_login_of_the_host_is_used_and_read_at_each_pull(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    async with serving(ImageRegistry(login=("host", "pw"))) as registry:
        runtime = await open_for(case, registry, tmp_path)
        spec = make_spec(image=registry.image)
        with pytest.raises(ContainerRuntimeError):
            await runtime.pull(spec, ignore)
        write_docker_config(tmp_path, {"auths": {registry.address: {"auth": _pair("host", "pw")}}})
        await runtime.pull(spec, ignore)


@pytest.mark.parametrize("case_name", ["docker"], indirect=True)
@pytest.mark.parametrize("key", ["credHelpers", "credsStore"])
async def test_a_credential_helper_is_asked(
    case: Case, make_spec: MakeSpec, tmp_path: Path, key: str
) -> None:
    async with serving(ImageRegistry(login=("helped", "pw"))) as registry:
        programs = tmp_path / "bin"
        programs.mkdir()
        helper = programs / "docker-credential-lab"
        helper.write_text(
            "#!/bin/sh\nread -r server\n"
            'test "$1" = get || exit 1\n'
            f'test "$server" = "{registry.address}" || {{ echo credentials not found; exit 1; }}\n'
            'echo \'{"Username": "helped", "Secret": "pw"}\'\n'
        )
        helper.chmod(0o755)
        value = "lab" if key == "credsStore" else {registry.address: "lab"}
        write_docker_config(tmp_path, {key: value})
        path = f"{programs}:{case.options.environ['PATH']}"
        runtime = await case.open(environ={**case.options.environ, "PATH": path})
        await runtime.pull(make_spec(image=registry.image), ignore)


@pytest.mark.parametrize("case_name", ["docker"], indirect=True)
async def test_a_helper_that_is_missing_fails_the_pull_by_name(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    async with serving(ImageRegistry(login=("helped", "pw"))) as registry:
        write_docker_config(tmp_path, {"credHelpers": {registry.address: "nowhere"}})
        runtime = await case.open()
        with pytest.raises(PullFailed, match="docker-credential-nowhere"):
            await runtime.pull(make_spec(image=registry.image), ignore)


def write_docker_config(home: Path, content: dict[str, Any]) -> None:
    """Write what `docker login` would."""
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps(content))


def _pair(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()
