"""`shipway-launcher sudoers`."""

from __future__ import annotations

import click

from shipway_launcher.commandline import Programs
from shipway_launcher.commands.options import run_async, settings_options
from shipway_launcher.config import LauncherSettings
from shipway_launcher.machines import open_machine
from shipway_launcher.sudoers import JOB_PROGRAMS, render_sudoers
from shipway_launcher.users import Users


@click.command()
@settings_options
@run_async
async def sudoers(settings: LauncherSettings) -> None:
    """Print the rule that sudo needs for `impersonation: sudo`."""
    first, *more = settings.sudo_helper
    async with open_machine(settings) as machine:
        users = Users(settings, machine)
        programs = Programs(settings.bin_dir, users.path, machine.find_program)
        names = JOB_PROGRAMS[settings.workload_manager]
        found = {name: await programs.find(name) for name in names}
        helper = await machine.find_program(first, users.path)
    missing = [name for name, path in found.items() if path is None]
    if missing or helper is None:
        raise click.ClickException(
            f"not found: {', '.join([*missing, *([first] if helper is None else [])])};"
            f" set path, {settings.workload_manager}.bin_dir or sudo_helper"
        )
    text = render_sudoers(
        settings.user_name or machine.user,
        settings.sudo_authorized,
        root=settings.job_storage_root,
        helper=[helper, *more],
        manager=settings.workload_manager,
        programs={name: str(path) for name, path in found.items()},
    )
    click.echo(text, nl=False)
