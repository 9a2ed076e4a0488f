"""The way to the workload manager that the settings describe."""

from __future__ import annotations

from shipway_launcher.config import LauncherSettings
from shipway_launcher.slurm.cli import CommandLineSlurm, Programs
from shipway_launcher.users import Users


def make_slurm(settings: LauncherSettings, users: Users) -> CommandLineSlurm:
    """Make the backend; nothing is run yet."""
    return CommandLineSlurm(
        Programs(settings.slurm.bin_dir, users.path, users.machine.find_program),
        users.own,
        query_timeout_s=settings.slurm.query_timeout_s,
        submit_timeout_s=settings.slurm.submit_timeout_s,
    )
