"""`shipway-launcher sudoers`."""

from __future__ import annotations

import os
import pwd
import shutil

import click

from shipway_launcher.commands.options import settings_options
from shipway_launcher.config import LauncherSettings
from shipway_launcher.errors import LauncherError
from shipway_launcher.slurm.cli import Programs
from shipway_launcher.sudoers import render_sudoers


@click.command()
@settings_options
def sudoers(settings: LauncherSettings) -> None:
    """Print the rule that sudo needs for `impersonation: sudo`."""
    search = settings.path or os.defpath
    programs = Programs(settings.slurm.bin_dir, search)
    first, *more = settings.sudo_helper
    found = {name: programs.find(name) for name in ("sbatch", "scancel", "scontrol")}
    missing = [name for name, path in found.items() if path is None]
    helper = shutil.which(first, path=search)
    if missing or helper is None:
        raise click.ClickException(
            f"not found: {', '.join([*missing, *([first] if helper is None else [])])};"
            " set path, slurm.bin_dir or sudo_helper"
        )
    try:
        text = render_sudoers(
            settings.user_name or pwd.getpwuid(os.geteuid()).pw_name,
            settings.sudo_authorized,
            root=settings.job_storage_root,
            helper=[helper, *more],
            **{name: str(path) for name, path in found.items()},
        )
    except LauncherError as error:
        raise click.ClickException(str(error)) from error
    click.echo(text, nl=False)
