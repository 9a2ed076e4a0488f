"""Slurm jobs in containers: the stock client's command, in podman and in apptainer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import SlurmSite
from tests.e2e.experiments import train_with_a_pause, write_config_of_ranks, write_python_image
from tests.e2e.tasks import fetch_command, wait_for_end, wait_for_log, wait_for_state
from tests.lab.apptainer import Apptainer
from tests.lab.podman import Podman
from tests.lab.processes import wait_until


@dataclass(frozen=True)
class Engine:
    """A site and an image that its jobs can run."""

    site: SlurmSite
    image: str

    def options(self) -> tuple[str, ...]:
        """Return what `det cmd run` needs to run in the image on a Slurm node."""
        return (
            *("--config", "resources.resource_pool=gpu"),
            *("--config", f"environment.image={self.image}"),
        )


@pytest.fixture(params=["podman", "apptainer"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn."""
    service: Podman | Apptainer = request.getfixturevalue(request.param)
    site: SlurmSite = request.getfixturevalue(f"{request.param}_site")
    yield Engine(site, service.image)
    site.slurm.clear()


def test_a_command_runs_in_its_image(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("from the context\n")
    value = "a=b 'c' \"d\" $e `f`"
    variables = json.dumps([f"MINE={value}"])
    done = engine.site.det.run(
        *("cmd", "run", *engine.options(), "--context", str(tmp_path)),
        *("--config", f"environment.environment_variables={variables}"),
        'cat data.txt; readlink /bin/sh; echo "mine: $MINE"; echo "on $SLURMD_NODENAME"; exit 3',
    )
    assert "from the context" in done.stdout
    assert re.search(r"busybox$", done.stdout, re.MULTILINE)
    assert f"mine: {value}" in done.stdout
    assert re.search(r"on n[1-4]$", done.stdout, re.MULTILINE)
    newest = json.loads(engine.site.det.run("cmd", "list", "--json", "--order-by", "desc").stdout)[
        0
    ]
    assert "3" in newest["exitStatus"]


def test_a_bind_mount_is_shared_with_the_node(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("given\n")
    engine.site.det.run(
        *("cmd", "run", *engine.options(), "--volume", f"{tmp_path}:/shared"),
        "cat /shared/in > /shared/out",
    )
    assert (tmp_path / "out").read_text() == "given\n"


def test_an_image_that_does_not_exist_is_named_in_the_log(engine: Engine) -> None:
    done = engine.site.det.run(
        *("cmd", "run", "--config", "resources.resource_pool=gpu"),
        *("--config", "environment.image=docker-archive:/nosuch.tar", "true"),
    )
    assert "nosuch.tar" in done.stdout


def test_a_killed_command_leaves_nothing(engine: Engine) -> None:
    api = engine.site.api
    command_id = engine.site.det.run(
        *("cmd", "run", "--detach", *engine.options()),
        "trap '' TERM; echo deaf; while :; do sleep 1; done",
    ).stdout.strip()
    wait_for_log(api, command_id, "deaf")
    wait_for_state(api, command_id, "STATE_RUNNING")
    engine.site.det.run("cmd", "kill", command_id)
    wait_for_end(api, command_id)
    assert fetch_command(api, command_id)["state"] == "STATE_TERMINATED"
    engine.site.slurm.wait_idle()
    wait_until(
        lambda: (
            not any(
                command_id.encode() in _read(process)
                for process in Path("/proc").glob("[0-9]*/environ")
            )
        ),
        "no process of it is left",
        limit_s=60,
    )


def test_preemption_reaches_the_program_in_the_container(engine: Engine) -> None:
    site = engine.site
    command_id = site.det.run(
        *("cmd", "run", "--detach", *engine.options()),
        "trap 'echo told to go; exit 0' TERM; echo ready; while :; do sleep 1 & wait; done",
    ).stdout.strip()
    wait_for_log(site.api, command_id, "ready")
    site.slurm.run(
        [*("sbatch", "-p", "urgent", "-N4", "--exclusive", "-o", "/dev/null"), "--wrap", "true"]
    )
    wait_for_log(site.api, command_id, "told to go")
    wait_for_end(site.api, command_id)


def test_a_trial_in_podman_goes_on_from_its_checkpoint(
    podman_site: SlurmSite, podman: Podman, tmp_path: Path
) -> None:
    podman.run(["import", str(write_python_image(tmp_path)), "localhost/lab:python"], limit_s=60)
    config = write_config_of_ranks(
        tmp_path,
        resources={"resource_pool": "gpu", "slots_per_trial": 2},
        slurm={"slots_per_node": 1},
    )
    image = "environment.image=localhost/lab:python"
    train_with_a_pause(podman_site, config, "--config", image, ranks=2)
    podman_site.slurm.clear()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # ended meanwhile
        return b""
