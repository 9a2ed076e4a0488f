"""Command line of shipway-master."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from shipway_common.findings import Grade, show
from shipway_common.logsetup import say_error, setup_logging
from shipway_common.service import ServiceManager
from shipway_common.settings import SettingsError
from shipway_common.signals import stop_on_signals
from shipway_master.app import running
from shipway_master.backup import BackupFailed, back_up
from shipway_master.checks.check import check as look_for_faults
from shipway_master.config import MasterConfig, load_config
from shipway_master.errors import CannotStart
from shipway_master.folder import held

log = logging.getLogger("shipway_master")

DEFAULT_FILE = Path("/etc/shipway/master.yaml")


class WrongSettings(click.ClickException):
    """What is in the settings is wrong, and stays so until somebody changes them."""


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-master."""


_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the settings (YAML, keys as in Determined's master.yaml)"
    f" [default: {DEFAULT_FILE} if it exists].",
)
_data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the database and of secrets [default: ~/.local/share/shipway-master].",
)


@main.command()
@_config_option
@_data_option
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option("--port", type=int, help="Port of everything: gRPC, REST, agents [default: 8080].")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Least important lines to log, on stderr [default: info].",
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="Form of log lines [default: text]."
)
def serve(
    config_file: Path | None,
    data: Path | None,
    host: str | None,
    port: int | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run the master until it is told to stop."""
    flags: dict[str, Any] = {
        "data": data,
        "host": host,
        "port": port,
        "log": {"level": log_level, "format": log_format},
    }
    try:
        config = _load(config_file, flags)
    except WrongSettings as error:  # which no restart heals
        say_error(f"Error: {error.message}")
        sys.exit(os.EX_CONFIG)
    setup_logging(config.log.python_level, config.log.format)
    faulthandler.enable()  # a watchdog that ends us with SIGABRT leaves a trace of each thread
    try:
        with held(config.data):
            asyncio.run(_serve(config, ServiceManager(os.environ)))
    except (CannotStart, OSError) as error:
        say_error(f"Error: the master cannot run: {error}")
        sys.exit(1)


@main.command()
@_config_option
@_data_option
def check(config_file: Path | None, data: Path | None) -> None:
    """Name each missing or unsafe setting.

    Exit status 1 if the master would not work.
    """
    config = _load(config_file, {"data": data})
    if asyncio.run(_check(config, config_file or _find_default())):
        sys.exit(1)


async def _check(config: MasterConfig, file: Path | None) -> bool:
    """Show what is found; returns whether something would not work."""
    console, is_bad = Console(highlight=False), False
    console.print(f"settings of {file or 'the command line and defaults'}", soft_wrap=True)
    async for finding in look_for_faults(config, file=file):
        show(console, finding)
        is_bad = is_bad or finding.grade is Grade.ERROR
    return is_bad


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@_config_option
@_data_option
def backup(target: Path, config_file: Path | None, data: Path | None) -> None:
    """Copy the whole database into the new file TARGET.

    The master may run meanwhile.
    """
    config = _load(config_file, {"data": data})
    try:
        size_bytes = back_up(config.db.resolve_url(config.data), target)
    except BackupFailed as error:
        raise click.ClickException(f"no backup was made: {error}") from error
    click.echo(f"{target}: {size_bytes / 1e6:.1f} MB")


def _load(config_file: Path | None, flags: dict[str, Any]) -> MasterConfig:
    file = config_file or _find_default()
    try:
        file_text = file.read_text(encoding="utf-8") if file else None
        return load_config(file_text=file_text, file_name=str(file or "flags"), flags=flags)
    except SettingsError as error:
        raise WrongSettings(str(error)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    except UnicodeDecodeError as error:
        raise WrongSettings(f"{file} is not UTF-8 text: {error}") from error


def _find_default() -> Path | None:
    try:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    except OSError as error:  # in a folder that is closed to this user
        raise click.ClickException(str(error)) from error


async def _serve(config: MasterConfig, service: ServiceManager) -> None:
    async with stop_on_signals() as stop:
        log.info("settings: %s", config.masked())
        async with running(config) as master:
            click.echo(f"shipway-master listens on {config.host}:{master.port}")
            if master.password_file is not None:
                click.echo(f"password of admin and determined: {master.password_file}")
            service.describe = master.describe
            service.ready()
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(service.keep_told(), name="service manager")
                await stop.wait()
                log.info("stopping")
                service.stopping()
                telling.cancel()


if __name__ == "__main__":
    main()
