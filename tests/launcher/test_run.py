"""Jobs without any master: run, followed and interrupted from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.processes import wait_until
from tests.lab.shipway import Launcher, program
from tests.lab.slurm import Slurm
from tests.launcher import commandline

Done = subprocess.CompletedProcess[str]


class Cli:
    """The launcher's subcommands, with the settings of the running one."""

    def __init__(self, launcher: Launcher, slurm: Slurm, folder: Path) -> None:
        self._launcher, self._slurm, self.folder = launcher, slurm, folder

    def _words(self, name: str, arguments: Sequence[str]) -> list[str]:
        return [name, "--config", str(self._launcher.config), *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        path = "/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": path, "COLUMNS": "200", "HERE": "from here", **self._slurm.environment}

    def __call__(self, name: str, *arguments: str) -> Done:
        """Run one to its end."""
        words = self._words(name, arguments)
        return commandline.call(*words, environment=self._environment, folder=self.folder)

    @contextmanager
    def started(self, name: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
        """Start one, as a program of its own."""
        with subprocess.Popen(
            [program("shipway-launcher"), *self._words(name, arguments)],
            env=self._environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def state(self, dispatch: str) -> str:
        """Return the state of a dispatch."""
        listed = json.loads(self("ps", "--all", "--json").stdout)
        [state] = [one["state"] for one in listed if one["dispatchId"] == dispatch]
        return str(state)


@pytest.fixture
def cli(launcher: Launcher, slurm: Slurm, tmp_path: Path) -> Cli:
    """The command line, in a folder of its own."""
    os.chmod(tmp_path, 0o755)
    return Cli(launcher, slurm, tmp_path)


def test_a_program_runs_where_one_stands_and_its_status_is_ours(cli: Cli) -> None:
    script = 'pwd; echo "$GIVEN, $HERE, $SLURM_NNODES"; echo oops >&2; exit 7'
    options = ("--env", "GIVEN=one = two", "--env", "HERE")

    done = cli("run", *options, "sh", "-c", script)

    assert done.returncode == 7
    assert done.stdout == f"{cli.folder}\none = two, from here, 1\n"
    assert "oops" in done.stderr
    assert re.search(r": (pending|running), job \d+\n", done.stderr)
    assert "Job Exited with Exit Code 7" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_it_writes_where_one_stands_is_there(cli: Cli) -> None:
    done = cli("run", "sh", "-c", "echo found >result")
    assert done.returncode == 0, done.stderr
    assert (cli.folder / "result").read_text() == "found\n"


def test_it_runs_once_on_each_node(cli: Cli) -> None:
    done = cli("run", "--nodes", "2", "sh", "-c", "echo on $SLURMD_NODENAME")
    assert done.returncode == 0, done.stderr
    nodes = done.stdout.splitlines()
    assert len(nodes) == len(set(nodes)) == 2
    assert all(node.startswith("on n") for node in nodes)


def test_gpus_are_given_by_slurm(cli: Cli) -> None:
    done = cli("run", "--gpus-per-node", "2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().split(",")) == 2


def test_why_it_waits_is_told_and_an_interrupt_cancels_it(cli: Cli) -> None:
    options = ("--id", "interrupted", "--sbatch-arg=--begin=now+1hour")
    with cli.started("run", *options, "true") as process:
        assert process.stderr is not None
        told = iter(process.stderr.readline, "")
        assert any("earliest start time" in line for line in told)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert cli.state("interrupted") == "TERMINATED"


def test_a_job_left_to_itself_is_found_again(cli: Cli) -> None:
    script = "echo first; until test -e /var/tmp/seen/go; do sleep 0.1; done; echo last; exit 3"
    mount = ("--mount", f"{cli.folder}:/var/tmp/seen:ro")
    name = cli("run", "--detach", *mount, "sh", "-c", script).stdout.strip()
    wait_until(lambda: "first" in cli("logs", name).stdout, "output comes", limit_s=60)
    with cli.started("logs", "--follow", name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        (cli.folder / "go").touch()
        assert process.stdout.readline() == "last\n"
        assert process.wait(60) == 3


def test_a_follower_that_leaves_lets_the_job_go_on(cli: Cli) -> None:
    name = cli("run", "--detach", "sh", "-c", "echo up; exec sleep 600").stdout.strip()
    with cli.started("logs", "--follow", name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert cli.state(name) == "RUNNING"
    assert cli("cancel", "--wait", name, "no-such").stdout == "TERMINATED\n"
    assert cli("logs", "--follow", name).returncode == 128 + signal.SIGTERM


def test_the_queue_shows_who_waits_and_why(cli: Cli) -> None:
    begin = "--sbatch-arg=--begin=now+1hour"
    name = cli("run", "--detach", "--name", "waiting-one", begin, "true").stdout.strip()
    # What the launcher shows is as young as its last look at Slurm.
    wait_until(lambda: "waiting-one" in cli("queue").stdout, "it is seen", limit_s=60)
    shown = cli("queue").stdout
    listed = json.loads(cli("queue", "--json").stdout)
    cli("cancel", "--wait", name)

    [line] = [line for line in shown.splitlines() if "waiting-one" in line]
    assert "PENDING" in line
    assert any("waiting-one" in job["name"] for job in listed.values())


def test_a_manifest_can_be_followed_as_well(cli: Cli, tmp_path: Path) -> None:
    script = cli("run", "--dry-run", "--name", "dry", "true").stdout
    assert script.startswith("#!/bin/bash\n")
    manifest = {
        "manifestVersion": "v1",
        "clientMetadata": {"name": "by hand"},
        "payloads": [
            {
                "name": "by-hand",
                "carriers": ["com.cray.analytics.capsules.carriers.hpc.slurm.SandboxOverSlurm"],
                "launchParameters": {"arguments": ["echo", "hello"]},
                "resourceRequirements": {"instances": {"nodes": 1}},
            }
        ],
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))

    done = cli("submit", "--follow", str(path))

    assert (done.returncode, done.stdout) == (0, "hello\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--env", "NOWHERE", "true"), "NOWHERE"),
        (("--mount", "a:b", "true"), "--mount a:b"),
        (("--image", "debian", "--runtime", "sandbox", "true"), "--image"),
        (("--partition", "nosuch", "true"), "nosuch"),
        (("--sbatch-arg=--wrap=id", "true"), "--wrap"),
        (("no-such-program",), "no-such-program"),
    ],
)
def test_what_cannot_be_is_named(cli: Cli, arguments: Sequence[str], words: str) -> None:
    done = cli("run", *arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
