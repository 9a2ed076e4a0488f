"""Launching: images, and what must be refused rather than called the task's own end."""

from __future__ import annotations

import pytest

from shipway_agent.errors import (
    ContainerRuntimeError,
    ImageNotFound,
    LaunchRefused,
    SpecUnsupported,
)
from shipway_agent.runtimes.spec import Event, EventKind, Runtime
from tests.agent.runtimes.conftest import Case, MakeSpec, with_images, with_socket_too
from tests.agent.runtimes.steps import ignore, start


@with_socket_too
async def test_a_missing_program_is_a_refusal_and_no_exit(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    with pytest.raises(LaunchRefused, match="no-such-program") as caught:
        await start(runtime, make_spec(argv=("no-such-program", "--flag")))
    assert caught.value.exit_code in {127, None}


async def test_a_program_that_may_not_run_is_a_refusal(
    runtime: Runtime, make_spec: MakeSpec
) -> None:
    with pytest.raises(LaunchRefused):
        await start(runtime, make_spec(argv=("/etc/passwd",)))


@with_images
async def test_a_missing_image_is_named(case: Case, runtime: Runtime, make_spec: MakeSpec) -> None:
    missing = "/no/such/image.sif" if case.name == "apptainer" else "localhost/no/such:image"
    spec = make_spec(image=missing)
    with pytest.raises(ContainerRuntimeError, match="no/such"):
        await runtime.pull(spec, ignore)
    with pytest.raises(ImageNotFound, match="no/such"):
        await start(runtime, spec)


@with_images
async def test_who_names_no_image_is_told_where_to(runtime: Runtime, make_spec: MakeSpec) -> None:
    with pytest.raises(SpecUnsupported, match=r"environment\.image"):
        await runtime.pull(make_spec(image=None), ignore)


@with_images
async def test_an_image_that_is_here_is_not_pulled(runtime: Runtime, make_spec: MakeSpec) -> None:
    events: list[Event] = []
    await runtime.pull(make_spec(), events.append)
    assert [event.kind for event in events] == [EventKind.PULL_SKIPPED]
