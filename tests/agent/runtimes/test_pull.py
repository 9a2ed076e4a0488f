"""Images on their way from a registry, with real engines and a registry on loopback."""

from __future__ import annotations

import base64
import json
import traceback
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
)
from tests.agent.runtimes.certificate import server_context
from tests.agent.runtimes.conftest import Case
from tests.agent.runtimes.credentialhelper import helper_environment
from tests.agent.runtimes.imageregistry import ImageRegistry, serving
from tests.agent.runtimes.steps import ignore, run
from tests.lab.podman import Podman

MakeSpec = Callable[..., ContainerSpec]


@pytest.fixture
def port(case_name: str, request: pytest.FixtureRequest) -> int:
    """The port where the case's engine reaches a registry without TLS; 0: wherever it is."""
    if case_name == "docker":
        return 0
    podman: Podman = request.getfixturevalue("podman")
    return podman.registry_port


@pytest.mark.parametrize("case_name", ["docker", "podman", "podman-socket"], indirect=True)
async def test_an_image_is_fetched_once_and_runs(
    case: Case, make_spec: MakeSpec, tmp_path: Path, port: int
) -> None:
    async with serving(ImageRegistry(), port=port) as registry:
        runtime = await case.open()
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
        assert f"/v2/{registry.path}/manifests/1" in registry.asked


@pytest.mark.parametrize("case_name", ["docker", "podman-socket"], indirect=True)
async def test_progress_ends_at_all_of_it(case: Case, make_spec: MakeSpec, port: int) -> None:
    async with serving(ImageRegistry(), port=port) as registry:
        runtime = await case.open()
        events: list[Event] = []
        await runtime.pull(make_spec(image=registry.image), events.append)
    last = events[-1]
    assert last.kind is EventKind.PULL_PROGRESS
    assert last.fraction == 1.0
    assert last.text.startswith(f"[{'=' * 40}] Downloaded: ")


@pytest.mark.parametrize("case_name", ["docker", "podman", "podman-socket"], indirect=True)
async def test_an_image_that_the_registry_does_not_have_is_not_found(
    case: Case, make_spec: MakeSpec, tmp_path: Path, port: int
) -> None:
    async with serving(ImageRegistry(), port=port) as registry:
        runtime = await case.open()
        spec = make_spec(image=f"{registry.address}/lab/other:2")
        with pytest.raises(ImageNotFound, match="manifest unknown"):
            await runtime.pull(spec, ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman", "podman-socket"], indirect=True)
async def test_a_layer_that_does_not_come_is_an_error_in_the_registrys_words(
    case: Case, make_spec: MakeSpec, tmp_path: Path, port: int
) -> None:
    async with serving(ImageRegistry(lost_layer=True), port=port) as registry:
        runtime = await case.open()
        with pytest.raises(PullFailed, match="blob"):
            await runtime.pull(make_spec(image=registry.image), ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman", "podman-socket"], indirect=True)
async def test_the_tasks_login_is_shown_to_its_own_registry_only(
    case: Case, make_spec: MakeSpec, tmp_path: Path, port: int
) -> None:
    login = ("bot", 'p:a"ß$')
    async with serving(ImageRegistry(login=login), port=port) as registry:
        runtime = await case.open()
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


@pytest.mark.parametrize("case_name", ["docker", "podman", "podman-socket"], indirect=True)
async def test_the_login_of_the_host_is_used_and_read_at_each_pull(
    case: Case, make_spec: MakeSpec, tmp_path: Path, port: int
) -> None:
    async with serving(ImageRegistry(login=("host", "pw")), port=port) as registry:
        runtime = await case.open()
        spec = make_spec(image=registry.image)
        with pytest.raises(ContainerRuntimeError):
            await runtime.pull(spec, ignore)
        write_docker_config(tmp_path, {"auths": {registry.address: {"auth": _pair("host", "pw")}}})
        await runtime.pull(spec, ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman-socket"], indirect=True)
async def test_the_login_of_a_credential_helper_is_shown(
    case: Case, make_spec: MakeSpec, tmp_path: Path, port: int
) -> None:
    async with serving(ImageRegistry(login=("helped", "pw")), port=port) as registry:
        environ = helper_environment(tmp_path, 'echo \'{"Username": "helped", "Secret": "pw"}\'')
        write_docker_config(tmp_path, {"credHelpers": {registry.address: "lab"}})
        runtime = await case.open(environ={**case.options.environ, **environ})
        await runtime.pull(make_spec(image=registry.image), ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman-socket"], indirect=True)
async def test_an_image_for_another_machine_is_not_found(
    case: Case, make_spec: MakeSpec, port: int
) -> None:
    async with serving(ImageRegistry(architecture="s390x"), port=port) as registry:
        runtime = await case.open()
        with pytest.raises(ImageNotFound, match=r"(?i)no.*(manifest|image).*(amd64|platform)"):
            await runtime.pull(make_spec(image=registry.image), ignore)


@pytest.mark.parametrize("case_name", ["docker", "podman-socket"], indirect=True)
async def test_a_registry_that_repeats_the_password_does_not_bring_it_into_the_log(
    case: Case, make_spec: MakeSpec, port: int
) -> None:
    wrong = RegistryAuth(username="bot", password="s3cret-of-mine")
    async with serving(ImageRegistry(login=("bot", "other"), repeats=True), port=port) as registry:
        runtime = await case.open()
        events: list[Event] = []
        spec = make_spec(image=registry.image, registry_auth=wrong)
        with pytest.raises(ContainerRuntimeError) as caught:
            await runtime.pull(spec, events.append)
    told = "".join(traceback.format_exception(caught.value)) + repr(events)
    assert "s3cret-of-mine" not in told
    assert base64.b64encode(b"bot:s3cret-of-mine").decode() not in told


@pytest.mark.parametrize("case_name", ["podman-socket"], indirect=True)  # Docker trusts loopback
async def test_a_registry_that_the_engine_does_not_trust_says_what_to_do(
    case: Case, make_spec: MakeSpec, tmp_path: Path
) -> None:
    async with serving(ImageRegistry(), tls=server_context(tmp_path)) as registry:
        runtime = await case.open()
        with pytest.raises(PullFailed, match=r"certificate.*/etc/docker/certs\.d/"):
            await runtime.pull(make_spec(image=registry.image), ignore)


@pytest.mark.parametrize("case_name", ["podman-socket"], indirect=True)  # Docker cuts it
async def test_a_long_line_of_a_pull_is_read(case: Case, make_spec: MakeSpec, port: int) -> None:
    async with serving(
        ImageRegistry(login=("a", "b"), complains="x" * 200_000), port=port
    ) as registry:
        runtime = await case.open()
        with pytest.raises(ContainerRuntimeError, match=r"x{100000}"):
            await runtime.pull(make_spec(image=registry.image), ignore)


def write_docker_config(home: Path, content: dict[str, Any]) -> None:
    """Write what `docker login` would."""
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps(content))


def _pair(username: str, password: str) -> str:
    return base64.b64encode(f"{username}:{password}".encode()).decode()
