from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.docker import Docker
from tests.lab.folders import new_folder, remove_folder
from tests.reliability.site import Site, open_site


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Get a folder with a short name; the test's daemons keep what they have in it."""
    made = new_folder("rel")
    yield made
    remove_folder(made)


@pytest.fixture(scope="module")
def sandbox_site(folder: Path) -> Iterator[Site]:
    """A master and the agent `sandbox`, whose tasks the shim holds."""
    with open_site(folder, {"sandbox": {}}) as site:
        site.add("sandbox").start()
        yield site


@pytest.fixture(scope="module")
def site(folder: Path, docker: Docker) -> Iterator[Site]:
    """A master and the agents `sandbox` and `docker`, and `hasty`, whose pool waits 2 s for it."""
    pools = {"sandbox": {}, "docker": {}, "hasty": {"agent_reconnect_wait": "2s"}}
    with open_site(folder, pools) as site:
        site.add("sandbox", slots=16).start()
        site.add("docker", slots=16, docker=docker).start()
        site.add("hasty").start()
        yield site
