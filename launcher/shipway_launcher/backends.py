"""The way to the workload manager that the settings describe."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from shipway_launcher.carriers.table import Manager
from shipway_launcher.commandline import Programs
from shipway_launcher.config import LauncherSettings, SlurmSettings
from shipway_launcher.pbs.cli import CommandLinePbs
from shipway_launcher.slurm.backend import Closes, SlurmBackend
from shipway_launcher.slurm.cli import CommandLineSlurm
from shipway_launcher.slurm.pyslurm.backend import PyslurmSlurm
from shipway_launcher.slurm.pyslurm.guard import PyslurmChoice
from shipway_launcher.transport.local import LocalTransport
from shipway_launcher.users import Users


def make_backend(settings: LauncherSettings, users: Users) -> SlurmBackend:
    """Make the backend of the workload manager that the settings name; nothing is run yet."""
    if settings.workload_manager is Manager.PBS:
        return CommandLinePbs(
            Programs(settings.pbs.bin_dir, users.path, users.machine.find_program),
            users.own,
            query_timeout_s=settings.pbs.query_timeout_s,
            submit_timeout_s=settings.pbs.submit_timeout_s,
        )
    return make_slurm(settings, users)


def make_slurm(settings: LauncherSettings, users: Users) -> SlurmBackend:
    """Make the backend; nothing is run yet."""
    slurm = settings.slurm
    by_commands = CommandLineSlurm(
        Programs(slurm.bin_dir, users.path, users.machine.find_program),
        users.own,
        query_timeout_s=slurm.query_timeout_s,
        submit_timeout_s=slurm.submit_timeout_s,
    )
    own = users.own
    if not _may_have_pyslurm(slurm) or not isinstance(own, LocalTransport):
        return by_commands
    return PyslurmSlurm(
        by_commands,
        own,
        PyslurmChoice(python=str(slurm.pyslurm_python), is_wanted=slurm.backend == "pyslurm"),
        submit_timeout_s=slurm.submit_timeout_s,
    )


def _may_have_pyslurm(slurm: SlurmSettings) -> bool:
    """Say whether it is worth a look; what this Python lacks needs no process to find that out."""
    if slurm.backend == "auto" and slurm.pyslurm_python == Path(sys.executable):
        return importlib.util.find_spec("pyslurm") is not None
    return slurm.backend != "cli"


async def close_backend(backend: SlurmBackend) -> None:
    """End what the backend has started, if it has."""
    if isinstance(backend, Closes):
        await backend.aclose()
