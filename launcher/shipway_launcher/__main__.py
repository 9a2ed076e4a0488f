"""Command line of shipway-launcher."""

from __future__ import annotations

import click


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-launcher."""


if __name__ == "__main__":
    main()
