"""The printed rule, as the real sudo reads it; and what sudo is told on its command line."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shipway_launcher.carriers.table import Manager
from shipway_launcher.errors import SetupError
from shipway_launcher.slurm.commands import JOB_FIELDS, Columns, list_jobs, list_jobs_as_json
from shipway_launcher.sudoers import render_sudoers
from shipway_launcher.transport.base import Command
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.transport.sudo import SudoTransport
from tests.lab.require import require

LAUNCHER, OTHER = "daemon", "nobody"
HELPER = [sys.executable, "-I", "-m", "shipway_launcher.transport.helper"]
JOBS = "/srv/a,b c/jobs/environments"


PROGRAMS = {
    Manager.SLURM: {
        "sbatch": "/usr/bin/true",
        "scancel": "/usr/bin/id",
        "squeue": "/usr/bin/false",
    },
    Manager.PBS: {
        "qsub": "/usr/bin/true",
        "qdel": "/usr/bin/id",
        "qsig": "/usr/bin/env",
        "qstat": "/usr/bin/false",
    },
}


def render(
    authorized: str = "ALL", launcher: str = LAUNCHER, manager: Manager = Manager.SLURM
) -> str:
    return render_sudoers(
        launcher,
        authorized,
        root=Path("/srv/a,b c"),
        helper=HELPER,
        manager=manager,
        programs=PROGRAMS[manager],
    )


@pytest.fixture(scope="module")
def rule() -> Iterator[None]:
    """The rule, where sudo finds it, for a launcher that may act for one user."""
    if os.geteuid() != 0:
        pytest.skip("rules of sudo need root")
    require("sudo", [name for name in ("sudo", "visudo") if shutil.which(name) is None])
    file = Path(f"/etc/sudoers.d/shipway-test-{os.getpid()}")
    aside = file.with_suffix(".new")  # which sudo passes over: others may be running it
    aside.touch(mode=0o440)
    aside.write_text(render(OTHER))
    aside.rename(file)
    try:
        yield
    finally:
        file.unlink()


def may(user: str, *command: str) -> bool:
    """Ask the real sudo whether the launcher's user may run a command as *user*."""
    words = ["sudo", "-n", "-l", "-U", LAUNCHER, "-u", user, "--", *command]
    done = subprocess.run(words, capture_output=True, check=False)
    return done.returncode == 0 and bool(done.stdout.strip())


@pytest.mark.parametrize("manager", list(Manager))
@pytest.mark.parametrize("authorized", ["ALL", "alice, bob.smith", "", "svc$"])
def test_visudo_takes_the_rule(authorized: str, manager: Manager, tmp_path: Path) -> None:
    require("sudo", [name for name in ("visudo",) if shutil.which(name) is None])
    file = tmp_path / "rule"
    file.write_text(render(authorized, manager=manager))
    done = subprocess.run(["visudo", "-c", "-f", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("rule")
def test_the_launcher_may_do_what_it_does() -> None:
    script = f"{JOBS}/{OTHER}/9d0c.1/job.sh"
    assert may(OTHER, "/usr/bin/true", "--parsable", script)
    assert may(OTHER, "/usr/bin/id", "--signal=KILL", "17", "18")
    assert may(OTHER, "/usr/bin/false", *list_jobs(Columns.of(JOB_FIELDS))[1:])
    assert may(OTHER, "/usr/bin/false", *list_jobs_as_json()[1:])
    for verb in ("install", "size", "status", "erase", "remove"):
        assert may(OTHER, *HELPER, verb, f"{JOBS}/{OTHER}/9d0c.1"), verb
    assert may(OTHER, *HELPER, "read", f"{JOBS}/{OTHER}/9d0c.1/output.log", "0", "99")


@pytest.mark.usefixtures("rule")
@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("root", ["/usr/bin/true", "--parsable", f"{JOBS}/root/x/job.sh"]),
        ("#0", ["/usr/bin/true", "--parsable", f"{JOBS}/root/x/job.sh"]),
        ("bin", ["/usr/bin/true", "--parsable", f"{JOBS}/bin/x/job.sh"]),
        (OTHER, ["/usr/bin/true", "--wrap=id"]),
        (OTHER, ["/usr/bin/true", "--parsable", "/tmp/job.sh"]),
        (OTHER, ["/usr/bin/false", "update", "job=1"]),
        (OTHER, [*HELPER, "read", "/etc/shadow", "0", "99"]),
        (OTHER, ["/bin/sh", "-c", "id"]),
        (OTHER, [sys.executable, "-c", "1"]),
    ],
)
def test_and_nothing_else(user: str, command: list[str]) -> None:
    assert not may(user, *command)


@pytest.mark.parametrize(
    ("launcher", "authorized"),
    [("a b", "ALL"), ("x", "ALL, (root)"), ("x\n", "ALL"), ("x", "%wheel")],
)
def test_what_is_no_name_is_refused(launcher: str, authorized: str) -> None:
    with pytest.raises(SetupError, match=r"user_name|sudo_authorized"):
        render(authorized, launcher)


async def test_what_a_site_sets_is_on_no_command_line() -> None:
    if os.geteuid() != 0:
        pytest.skip("acting for another user needs root")
    require("sudo", [name for name in ("sudo",) if shutil.which(name) is None])
    own = LocalTransport(getpass.getuser(), {"PATH": os.environ["PATH"], "HOME": "/own"})
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": pwd.getpwnam(OTHER).pw_dir,
        "SLURM_JWT": "of-the-site",
        "LD_LIBRARY_PATH": "/nowhere",
        "BYTES": "día \udcff $HOME",
    }
    transport = SudoTransport(OTHER, environment, own)
    parent = "tr '\\0' ' ' </proc/$PPID/cmdline; env -0 | tr '\\0' '\\n'"
    done = await transport.run(Command(argv=("/bin/sh", "-c", parent), timeout_s=20))
    arguments, _, variables = done.stdout_text.partition(" -- ")
    assert done.exit_status == 0, done.stderr_text
    assert "of-the-site" not in arguments
    assert "--preserve-env=SLURM_JWT" in arguments
    assert {f"{name}={value}" for name, value in environment.items()} <= set(variables.splitlines())
