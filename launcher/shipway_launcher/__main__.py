"""Command line of shipway-launcher."""

from __future__ import annotations

import click

from shipway_launcher.commands.jobs import cancel, logs, run, submit
from shipway_launcher.commands.serve import check, serve
from shipway_launcher.commands.sudoers import sudoers
from shipway_launcher.commands.token import token
from shipway_launcher.commands.views import ps, queue, resources


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run jobs of a Determined cluster under Slurm, and look after them."""


for _command in (
    *(serve, check, sudoers, token),
    *(run, submit, ps, logs, cancel, queue, resources),
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
