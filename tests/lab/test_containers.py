"""The private container engines run the lab's image and answer on their sockets."""

from __future__ import annotations

import aiodocker
import pytest

from tests.lab.apptainer import Apptainer
from tests.lab.docker import Docker
from tests.lab.podman import Podman


def test_docker_passes_the_exit_code_on(docker: Docker) -> None:
    done = docker.run(["run", "--rm", docker.image, "sh", "-c", "echo hi; exit 7"], check=False)
    assert (done.returncode, done.stdout) == (7, "hi\n")


def test_podman_passes_the_exit_code_on(podman: Podman) -> None:
    done = podman.run(["run", "--rm", podman.image, "sh", "-c", "echo hi; exit 7"], check=False)
    assert (done.returncode, done.stdout) == (7, "hi\n")


def test_apptainer_passes_the_exit_code_on(apptainer: Apptainer) -> None:
    done = apptainer.run(["exec", apptainer.image, "sh", "-c", "echo hi; exit 7"], check=False)
    assert (done.returncode, done.stdout) == (7, "hi\n")


@pytest.mark.parametrize("service", ["docker", "podman"])
async def test_the_socket_speaks_the_docker_api(
    service: str, request: pytest.FixtureRequest
) -> None:
    engine: Docker | Podman = request.getfixturevalue(service)
    async with aiodocker.Docker(url=engine.url) as client:
        image = await client.images.inspect(engine.image)
    assert image["Os"] == "linux"
