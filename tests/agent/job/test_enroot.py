"""A job whose task runs by Enroot, in the container that the user made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.agent.job.conftest import StartJob
from tests.agent.job.stand_in import StandInRelay
from tests.lab.enroot import Enroot


@pytest.fixture
def made(enroot: Enroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """Make a container, as its user would; returns the variables that say where it is."""
    monkeypatch.setenv("PATH", enroot.environment["PATH"])
    places = {"ENROOT_DATA_PATH": str(tmp_path / "made")}
    subprocess.run(
        ["enroot", "create", "--name", "org+img+1", "--", enroot.image],
        env={**os.environ, **places, "ENROOT_RUNTIME_PATH": str(tmp_path / "run")},
        check=True,
    )
    return places


async def test_a_task_runs_in_the_users_container(
    relay: StandInRelay, start_job: StartJob, made: Mapping[str, str], tmp_path: Path
) -> None:
    archives = tmp_path / "archives"
    (archives / "run/determined").mkdir(parents=True)
    (archives / "run/determined/entry.sh").write_text(
        '#!/bin/sh\necho "$VALUE"\ngrep -c " /var/tmp tmpfs" /proc/self/mounts\npwd\nexit 6\n'
    )
    (archives / "run/determined/entry.sh").chmod(0o755)
    job = await start_job(
        "/run/determined/entry.sh",
        runtime="enroot",
        image="org/img:1",
        working_dir="/run/determined/workdir",
        archives_dir=str(archives),
        environment={**made, "ENROOT_MOUNT_HOME": "y", "VALUE": 'quote" and\nline'},
        mounts=[{"source": "tmpfs", "target": "/var/tmp:x-create=dir"}],
    )
    ended = await job.end()
    assert ended.stderr == b""
    assert ended.stdout == b'quote" and\nline\n1\n/run/determined/workdir\n'
    assert ended.status == 6
    assert relay.lines == ['quote" and\n', "line\n", "1\n", "/run/determined/workdir\n"]


async def test_a_container_that_nobody_made_is_named(
    relay: StandInRelay, start_job: StartJob, made: Mapping[str, str]
) -> None:
    image = "docker.io/badhost/missing.image"
    job = await start_job("true", runtime="enroot", image=image, environment=dict(made))
    ended = await job.end()
    assert ended.status == 125
    place = f"{made['ENROOT_DATA_PATH']}/docker.io+badhost+missing.image"
    assert f"No such file or directory: {place}" in ended.stderr.decode()
    assert any(place in line for line in relay.lines)
