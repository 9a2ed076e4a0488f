"""Which runtime a name means here, and why one does not work."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from shipway_agent.errors import RuntimeUnavailable
from shipway_agent.runtimes.options import RuntimeName, RuntimeOptions
from shipway_agent.runtimes.registry import check_runtime, find_runtime
from tests.lab.docker import Docker
from tests.lab.enroot import Enroot
from tests.lab.podman import Podman


@pytest.fixture
def options(tmp_path: Path) -> RuntimeOptions:
    """Options under which no engine is found."""
    return RuntimeOptions(
        state_dir=tmp_path / "state",
        environ={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)},
        docker_host=f"unix://{tmp_path}/docker.sock",
        podman_socket=f"unix://{tmp_path}/podman.sock",
    )


async def found(name: RuntimeName, options: RuntimeOptions) -> str:
    """Return which runtime *name* is."""
    runtime = await find_runtime(name, options)
    await runtime.aclose()
    return runtime.name


async def test_auto_is_the_sandbox_where_there_is_nothing_else(options: RuntimeOptions) -> None:
    hidden = {"PATH": "/nowhere", "HOME": "/"}  # system folders are looked into nevertheless
    checks = await check_runtime("auto", replace(options, environ=hidden))
    usable = [check.name for check in checks if check.usable]
    assert usable[-1] == "sandbox"
    assert await found("auto", options) == usable[0]


async def test_auto_prefers_docker(options: RuntimeOptions, docker: Docker) -> None:
    assert await found("auto", replace(options, docker_host=docker.url)) == "docker"


async def test_auto_takes_podman_where_its_socket_answers(
    options: RuntimeOptions, podman: Podman
) -> None:
    environ = {**os.environ, **podman.environment, "CONTAINER_HOST": podman.url}
    served = replace(options, podman_socket=None, environ=environ)
    assert await found("auto", served) == "podman"


async def test_the_check_of_auto_names_what_the_agent_takes(
    options: RuntimeOptions, podman: Podman
) -> None:
    # The program of podman works, and is taken only by name.
    unserved = replace(options, podman_socket=None, environ={**os.environ, **podman.environment})
    checks = await check_runtime("auto", unserved)
    assert next(one.name for one in checks if one.usable) == await found("auto", unserved)


async def test_each_that_does_not_work_says_why(options: RuntimeOptions) -> None:
    checks = {check.name: check for check in await check_runtime("auto", options)}
    assert not checks["docker"].usable
    assert "docker.sock" in checks["docker"].detail
    assert not checks["podman"].usable
    assert "podman.sock" in checks["podman"].detail
    assert checks["sandbox"].usable


async def test_enroot_is_found_on_the_path(options: RuntimeOptions, enroot: Enroot) -> None:
    with pytest.raises(RuntimeUnavailable, match="enroot is not on PATH"):
        await find_runtime("enroot", options)
    (check,) = await check_runtime(
        "enroot", replace(options, environ={**options.environ, **enroot.environment})
    )
    assert check.usable
    assert check.detail.startswith("enroot ")


async def test_a_name_nobody_knows_is_refused(options: RuntimeOptions) -> None:
    with pytest.raises(RuntimeUnavailable, match="'kubernetes' is not known; use one of auto"):
        await find_runtime("kubernetes", options)  # type: ignore[arg-type]
