from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.docker import Docker
from tests.lab.folders import new_folder, remove_folder
from tests.reliability.site import Site, open_site


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Get a folder with a short name; the test's daemons keep what they have in it."""
    with _made_folder() as made:
        yield made


@pytest.fixture(scope="session")
def site(docker: Docker) -> Iterator[Site]:
    """A master and the agents `sandbox`, `docker`, and `hasty`, whose pool waits 2 s for it."""
    pools = {"sandbox": {}, "docker": {}, "hasty": {"agent_reconnect_wait": "2s"}, "other": {}}
    with _made_folder() as made, open_site(made, pools) as site:
        site.add("sandbox", slots=16).launch()
        site.add("docker", slots=16, docker=docker).launch()
        site.add("hasty").launch()
        site.wait_until_free()
        yield site


@contextmanager
def _made_folder() -> Iterator[Path]:
    made = new_folder("rel")
    try:
        yield made
    finally:
        remove_folder(made)
