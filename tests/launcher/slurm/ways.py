"""The ways to one real cluster."""

from __future__ import annotations

import getpass
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from shipway_launcher.backends import close_backend, make_backend
from shipway_launcher.config import load_settings
from shipway_launcher.machines import open_machine
from shipway_launcher.slurm.backend import SlurmBackend
from shipway_launcher.transport.base import Transport
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.users import Users
from tests.lab import pyslurm as pyslurm_lab
from tests.lab import sshd as sshd_lab
from tests.lab.folders import new_folder
from tests.lab.require import require
from tests.lab.slurm import Slurm
from tests.lab.sshd import Sshd
from tests.launcher.slurm.test_pyslurm import make, write_python

WAYS = ["command line", "over ssh", "pyslurm, new interface", "pyslurm, old interface"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A backend and who uses it."""

    backend: SlurmBackend
    user: Transport


@asynccontextmanager
async def take_way(name: str, slurm: Slurm, folder: Path) -> AsyncGenerator[Way]:
    """Open a way of WAYS; a test that takes one which is not to be had here is skipped."""
    if name.startswith("pyslurm"):
        own = LocalTransport(
            getpass.getuser(), {"PATH": os.environ["PATH"], "HOME": "/", **slurm.environment}
        )
        python = _python(slurm, folder, is_old="old" in name)
        backend = make(own, None, python, path=os.environ["PATH"])
        yield Way(backend=backend, user=own)
        await backend.aclose()
    elif name == "over ssh":
        require("sshd", sshd_lab.missing_programs())
        variables = {"SetEnv": f"SLURM_CONF={slurm.environment['SLURM_CONF']}"}
        with Sshd(new_folder("sshd"), variables) as sshd:
            there = {
                "ssh": sshd.settings,
                "job_storage_root": str(folder),
                "path": os.environ["PATH"],
                "agent_command": ["shipway-agent"],
                "relay": {"enabled": False},
            }
            settings = load_settings(flags=there)
            async with open_machine(settings) as machine:
                users = Users(settings, machine)
                yield Way(backend=make_backend(settings, users), user=users.own)
    else:
        environment = {"PATH": os.environ["PATH"], **slurm.environment}
        settings = load_settings(file_text="slurm: {backend: cli}", environment=environment)
        users = Users(settings)
        by_commands = make_backend(settings, users)
        yield Way(backend=by_commands, user=users.own)
        await close_backend(by_commands)


def _python(slurm: Slurm, folder: Path, *, is_old: bool) -> str:
    pyslurm_lab.skip_without(slurm, is_old=is_old)
    before = "import pyslurm; del pyslurm.JobSubmitDescription" if is_old else "pass"
    return write_python(folder / "python", before, pyslurm_lab.python())
