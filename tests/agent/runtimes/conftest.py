"""Every runtime there is, each ready to run the lab's image (or none)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from shipway_agent.runtimes.options import RuntimeName, RuntimeOptions
from shipway_agent.runtimes.registry import find_runtime
from shipway_agent.runtimes.spec import ContainerId, ContainerSpec, Runtime
from tests.lab.folders import new_folder, remove_folder
from tests.lab.require import require

SANDBOXES = ("process", "bubblewrap")
WITH_IMAGES = ("docker", "podman", "apptainer", "enroot")
CASES = (*SANDBOXES, *WITH_IMAGES)
"""Podman's socket is one more; much of it is Docker's code, so only some tests run on it."""

MakeSpec = Callable[..., ContainerSpec]
"""`make_spec(argv=(…), …)`: a valid spec for the runtime under test."""

with_socket_too = pytest.mark.parametrize("case_name", [*CASES, "podman-socket"], indirect=True)
with_walls = pytest.mark.parametrize("case_name", ["bubblewrap", *WITH_IMAGES], indirect=True)
with_images = pytest.mark.parametrize("case_name", [*WITH_IMAGES, "podman-socket"], indirect=True)


@dataclass
class Case:
    """One runtime and what a test must know of it."""

    name: str
    runtime_name: RuntimeName
    options: RuntimeOptions
    image: str | None
    utf8_only: bool = False
    """It refuses other bytes in the environment and the arguments."""
    identifiers_only: bool = False
    """It refuses names of variables that are no identifiers."""
    has_walls: bool = True
    """A container has its own files and processes."""
    opened: list[Runtime] = field(default_factory=list)

    async def open(self, **changes: Any) -> Runtime:
        """Open the runtime, as a freshly started agent would."""
        runtime = await find_runtime(self.runtime_name, replace(self.options, **changes))
        self.opened.append(runtime)
        return runtime


@pytest.fixture(params=CASES)
def case_name(request: pytest.FixtureRequest) -> str:
    """The runtime under test; a mark on a test narrows or widens the choice."""
    name: str = request.param
    return name


@pytest.fixture
async def case(
    case_name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Case]:
    """One runtime; what a test leaves in it is removed."""
    case = make_case(case_name, request, tmp_path)
    yield case
    if case.opened:
        cleaner = case.opened[-1]
        for owned in await cleaner.list_owned({}):
            await cleaner.remove(owned.handle)
    for runtime in case.opened:
        await runtime.aclose()


@pytest.fixture
async def runtime(case: Case) -> Runtime:
    """The runtime of the case, open."""
    return await case.open()


@pytest.fixture
def make_spec(case: Case) -> MakeSpec:
    """Make a valid spec for the case's runtime: `make_spec(argv=(…), …)`."""
    return spec_maker(case.image)


def spec_maker(image: str | None) -> MakeSpec:
    """Return what makes specs with *image*."""

    def make(**changes: Any) -> ContainerSpec:
        usual: dict[str, Any] = {
            "id": ContainerId("c-1"),
            "image": image,
            "argv": ("sh", "-c", "true"),
            "network_mode": "host",
        }
        return ContainerSpec(**{**usual, **changes})

    return make


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can get to."""
    require("another user", [] if os.geteuid() == 0 else ["the rights of root"])
    folder = new_folder("sandbox")
    yield folder
    remove_folder(folder)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of a megabyte, a third of it taken by the file `ballast`."""
    require("a small disk", [] if os.geteuid() == 0 else ["the rights of root"])
    folder = new_folder("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    (folder / "ballast").write_bytes(b"\0" * 350_000)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    remove_folder(folder)


def make_case(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """Return the case *name*, its service started."""
    state_dir = tmp_path / "state"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    options = RuntimeOptions(state_dir=state_dir, environ=environ)
    match name:
        case "process":
            return Case(
                name=name,
                runtime_name="sandbox",
                options=replace(options, sandbox_mode="process"),
                image=None,
                has_walls=False,
            )
        case "bubblewrap":
            return Case(
                name=name,
                runtime_name="sandbox",
                options=replace(options, sandbox_mode="bubblewrap"),
                image=None,
            )
        case "docker":
            docker = request.getfixturevalue("docker")
            return Case(
                name=name,
                runtime_name="docker",
                options=replace(options, docker_host=docker.url),
                image=docker.image,
                utf8_only=True,
            )
        case "podman" | "podman-socket":
            podman = request.getfixturevalue("podman")
            options = replace(options, environ={**environ, **podman.environment})
            if name == "podman-socket":
                options = replace(options, podman_socket=podman.url)
            return Case(
                name=name,
                runtime_name="podman",
                options=options,
                image=podman.image,
                utf8_only=True,
            )
        case "apptainer":
            apptainer = request.getfixturevalue("apptainer")
            return Case(
                name=name,
                runtime_name="apptainer",
                options=replace(options, environ={**environ, **apptainer.environment}),
                image=apptainer.image,
                utf8_only=True,
                identifiers_only=True,
            )
        case "enroot":
            enroot = request.getfixturevalue("enroot")
            return Case(
                name=name,
                runtime_name="enroot",
                options=replace(options, environ={**environ, **enroot.environment}),
                image=enroot.image,
                identifiers_only=True,
            )
        case _:
            raise AssertionError(name)
