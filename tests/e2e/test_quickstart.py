"""docs/quickstart.md, followed to the letter on a real Slurm.

Only the two environments are those of the tests, whose set-up installs them by the same commands; the ports are
free ones, and the home is a folder of the test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.det import program
from tests.lab.processes import end, free_ports
from tests.lab.slurm import Slurm

ROOT = Path(__file__).parents[2]
PORTS = ("8080", "8181", "8183")


def read_commands() -> list[str]:
    """The ten commands, in their order."""
    page = (ROOT / "docs/quickstart.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def test_there_are_ten_of_them() -> None:
    commands = read_commands()
    assert len(commands) == 10
    assert [command.split(" ")[0] for command in commands[:2]] == ["python3", "python3"]


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with the two environments, and not in /tmp, of which jobs have one of their own."""
    with tempfile.TemporaryDirectory(prefix=".quickstart-", dir=Path.home()) as folder:
        home = Path(folder)
        (home / "shipway").symlink_to(Path(sys.executable).parents[1])
        (home / "det").symlink_to(program().parents[1])
        yield home


@pytest.fixture
def shell(home: Path, slurm: Slurm) -> Iterator[subprocess.Popen[str]]:
    """A shell on the login node, as a user has one."""
    environment = {**os.environ, **slurm.environment, "HOME": str(home), "USER": "root"}
    shell = subprocess.Popen(
        ["bash"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield shell
    daemons = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(shell.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    end([int(pid) for pid in daemons], grace_s=20)
    shell.send_signal(signal.SIGKILL)
    shell.wait()
    slurm.clear()


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("det")  # says so where the stock client is not there
def test_a_distributed_trial_in_ten_commands(shell: subprocess.Popen[str]) -> None:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))

    def with_free_ports(text: str) -> str:
        return re.sub("|".join(PORTS), lambda found: ports[found[0]], text)

    assert shell.stdin is not None
    for number, command in enumerate(read_commands()[2:], start=3):
        shell.stdin.write(f"{with_free_ports(command)}\n")
        if number == 4:
            renumber = "; ".join(f"s/{old}/{new}/" for old, new in ports.items())
            shell.stdin.write(f"sed -i '{renumber}' *.yaml\n")
        if number == 7:
            url = f"http://127.0.0.1:{ports['8080']}/info"
            shell.stdin.write(f"curl -s --retry 90 --retry-connrefused --retry-delay 1 {url}\n")
        if not command.endswith("&"):
            shell.stdin.write(f'echo "command {number} exited $?"\n')
    shell.stdin.write("kill $(jobs -p); wait; exit\n")
    output, _ = shell.communicate(timeout=220)
    for number in (3, 4, 5, 8, 9, 10):
        assert f"command {number} exited 0" in output, output[-6000:]
    assert "4 ranks on 2 nodes begin after step 0" in output, output[-6000:]
    assert re.search(r"after step 100 the line is (2\.9|3\.0)\d x \+ (0\.9|1\.0)\d", output)
    assert re.search(r"HPC Job ID: \d+", output)
    assert re.search(r"100 \| COMPLETED", output), "its checkpoint is listed"
