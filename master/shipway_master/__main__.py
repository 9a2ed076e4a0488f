"""Command line of shipway-master."""

from __future__ import annotations

import click


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-master."""


if __name__ == "__main__":
    main()
