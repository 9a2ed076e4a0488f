"""Command line of shipway-agent."""

from __future__ import annotations

import click

from shipway_agent.job.command import job_command


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-agent."""


main.add_command(job_command)


if __name__ == "__main__":
    main()
