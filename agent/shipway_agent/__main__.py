"""Command line of shipway-agent."""

from __future__ import annotations

import click


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-agent."""


if __name__ == "__main__":
    main()
