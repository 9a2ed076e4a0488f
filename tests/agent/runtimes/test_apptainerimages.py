"""Images that the agent fetches for Apptainer, while the container is told to be pulled."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from shipway_agent.errors import ImageNotFound, PullFailed
from shipway_agent.runtimes.spec import Event, EventKind, RegistryAuth, Runtime
from tests.agent.runtimes.conftest import Case, MakeSpec
from tests.agent.runtimes.imageregistry import ImageRegistry, serving
from tests.agent.runtimes.steps import ignore, run

LOGIN = ("someone", "pass:w0rd'x")

pytestmark = pytest.mark.parametrize("case_name", ["apptainer"], indirect=True)


@pytest.fixture
async def registry() -> AsyncIterator[ImageRegistry]:
    """A registry that wants a log-in."""
    async with serving(ImageRegistry(login=LOGIN)) as registry:
        yield registry


@pytest.fixture
async def insecure(case: Case) -> Runtime:
    """The runtime, which also goes to registries without TLS."""
    return await case.open(environ={**case.options.environ, "APPTAINER_NOHTTPS": "true"})


async def test_an_image_is_fetched_before_the_start_and_kept(
    insecure: Runtime, make_spec: MakeSpec, registry: ImageRegistry
) -> None:
    auth = RegistryAuth(username=LOGIN[0], password=LOGIN[1], server_address=registry.address)
    events: list[Event] = []
    spec = make_spec(image=registry.image, registry_auth=auth, argv=("sh", "-c", "echo ran"))
    await insecure.pull(spec, events.append)
    kinds = [event.kind for event in events]
    assert kinds[0] is EventKind.PULL_BEGAN
    assert not any(LOGIN[1] in event.text for event in events)
    asked = len(registry.asked)
    await insecure.pull(spec, events.append)
    assert events[-1].kind is EventKind.PULL_SKIPPED
    assert (await run(insecure, spec)).stdout == b"ran\n"
    assert len(registry.asked) == asked
    await insecure.pull(replace(spec, force_pull=True), ignore)
    assert len(registry.asked) > asked


async def test_the_image_of_a_container_does_not_make_room_for_another(
    case: Case, make_spec: MakeSpec, registry: ImageRegistry
) -> None:
    registry.login = None
    environ = {**case.options.environ, "APPTAINER_NOHTTPS": "true"}
    runtime = await case.open(environ=environ, image_limit_bytes=1)
    folder = case.options.state_dir / "apptainer-images"
    for name in ("lab/unused", "lab/used"):
        registry.path = name
        spec = make_spec(image=registry.image, argv=("sh", "-c", "echo ran"))
        await runtime.pull(spec, ignore)
    handle = await runtime.create(spec, ignore)
    for path in folder.glob("*.sif"):
        os.utime(path, (0, 0))
    registry.path = "lab/new"
    await runtime.pull(make_spec(image=registry.image), ignore)
    assert sorted(path.name.partition("+lab+")[2] for path in folder.iterdir()) == [
        "new+1.sif",
        "used+1.sif",
    ]
    await runtime.start(handle)
    assert (await runtime.wait(handle)).code == 0


async def test_what_the_registry_refuses_fails_the_pull_in_its_words(
    insecure: Runtime, make_spec: MakeSpec, registry: ImageRegistry
) -> None:
    with pytest.raises(
        (ImageNotFound, PullFailed), match=r"(?i)authentication required|unauthorized"
    ):
        await insecure.pull(make_spec(image=registry.image), ignore)
