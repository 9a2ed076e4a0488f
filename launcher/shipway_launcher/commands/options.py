"""What all subcommands share: where the settings come from."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import click

from shipway_common.settings import SettingsError
from shipway_launcher.config import LauncherSettings, load_settings
from shipway_launcher.errors import LauncherError

DEFAULT_FILE = Path("/etc/shipway/launcher.yaml")

_P = ParamSpec("_P")


class WrongSettings(click.ClickException):
    """What is in the settings is wrong, and stays so until somebody changes them."""


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --config and --master-config, and hand it `settings`."""

    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help=f"Settings file. [default: {DEFAULT_FILE} if it exists]",
    )
    @click.option(
        "--master-config",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="A Determined master.yaml, for the launcher's keys in its resource_manager section.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any, config_file: Path | None, master_config: Path | None, **kwargs: Any
    ) -> Any:
        return command(*args, settings=read_settings(config_file, master_config), **kwargs)

    return wrapped


def read_settings(
    config_file: Path | None, master_config: Path | None, **flags: Any
) -> LauncherSettings:
    """Read the settings files; mistakes end the program with their list."""
    try:
        file = config_file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
        return load_settings(
            file_text=file.read_text() if file else None,
            file_name=str(file or "settings"),
            master_text=master_config.read_text() if master_config else None,
            environment=os.environ,
            flags=flags,
        )
    except SettingsError as error:
        raise WrongSettings(str(error)) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error


def run_async(command: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Run a coroutine as a command; the launcher's errors become its message."""

    @functools.wraps(command)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            asyncio.run(command(*args, **kwargs))
        except LauncherError as error:
            raise click.ClickException(str(error)) from error

    return wrapped
