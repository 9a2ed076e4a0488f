"""Command line of shipway-master."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import click

from shipway_common.logsetup import setup_logging
from shipway_common.settings import SettingsError
from shipway_common.signals import stop_on_signals
from shipway_master.app import running
from shipway_master.backup import BackupFailed, back_up
from shipway_master.config import MasterConfig, load_config
from shipway_master.errors import CannotStart
from shipway_master.folder import held

log = logging.getLogger("shipway_master")


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-master."""


_config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the settings (YAML, keys as in Determined's master.yaml).",
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
    config = _load(config_file, flags)
    setup_logging(config.log.python_level, config.log.format)
    try:
        with held(config.data):
            asyncio.run(_serve(config))
    except (CannotStart, OSError) as error:
        raise click.ClickException(f"the master cannot run: {error}") from error


@main.command()
@click.argument("target", type=click.Path(path_type=Path))
@_config_option
@_data_option
def backup(target: Path, config_file: Path | None, data: Path | None) -> None:
    """Copy the database whole into the new file TARGET, also while the master runs."""
    config = _load(config_file, {"data": data})
    try:
        size_bytes = back_up(config.db.resolve_url(config.data), target)
    except BackupFailed as error:
        raise click.ClickException(f"no backup was made: {error}") from error
    click.echo(f"{target}: {size_bytes / 1e6:.1f} MB")


def _load(config_file: Path | None, flags: dict[str, Any]) -> MasterConfig:
    try:
        file_text = config_file.read_text(encoding="utf-8") if config_file else None
        return load_config(file_text=file_text, file_name=str(config_file or "flags"), flags=flags)
    except (SettingsError, OSError) as error:
        raise click.ClickException(str(error)) from error
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{config_file} is not UTF-8 text: {error}") from error


async def _serve(config: MasterConfig) -> None:
    async with stop_on_signals() as stop:
        log.info("settings: %s", config.masked())
        async with running(config) as master:
            click.echo(f"shipway-master listens on {config.host}:{master.port}")
            if master.password_file is not None:
                click.echo(f"password of admin and determined: {master.password_file}")
            await stop.wait()
            log.info("stopping")


if __name__ == "__main__":
    main()
