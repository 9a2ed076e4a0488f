"""`shipway-launcher serve` and `check`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from shipway_common.findings import Grade, show
from shipway_common.logsetup import say_error, setup_logging
from shipway_common.service import ServiceManager
from shipway_common.signals import stop_on_signals
from shipway_launcher.check import check as look_for_faults
from shipway_launcher.commands.options import (
    WrongSettings,
    read_settings,
    run_async,
    settings_options,
)
from shipway_launcher.config import LauncherSettings
from shipway_launcher.daemon import run_launcher
from shipway_launcher.errors import LauncherError


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Settings file.",
)
@click.option("--master-config", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@run_async
async def serve(
    config_file: Path | None, master_config: Path | None, host: str | None, port: int | None
) -> None:
    """Run the launcher until SIGTERM or SIGINT; the jobs go on."""
    settings = _read_for_service(config_file, master_config, host=host, port=port)
    setup_logging(settings.log.level, settings.log.format)
    try:
        await _run(settings, ServiceManager(os.environ))
    except LauncherError as error:
        say_error(f"Error: {error}")
        sys.exit(1)


async def _run(settings: LauncherSettings, service: ServiceManager) -> None:
    async with stop_on_signals() as stop, run_launcher(settings) as serving:
        service.describe = serving.describe
        service.ready()
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(service.keep_told(), name="service manager")
            await stop.wait()
            service.stopping()
            telling.cancel()


def _read_for_service(
    config_file: Path | None, master_config: Path | None, **flags: Any
) -> LauncherSettings:
    """Read the settings; mistakes in them end the program as what no restart heals."""
    try:
        return read_settings(config_file, master_config, **flags)
    except WrongSettings as error:
        say_error(f"Error: {error.message}")
        sys.exit(os.EX_CONFIG)


@click.command()
@settings_options
@run_async
async def check(settings: LauncherSettings) -> None:
    """Name each missing or unsafe setting.

    Exit status 1 if the launcher would not work.
    """
    console = Console(highlight=False)
    is_bad = False
    async for finding in look_for_faults(settings):
        show(console, finding)
        is_bad = is_bad or finding.grade is Grade.ERROR
    if is_bad:
        sys.exit(1)
