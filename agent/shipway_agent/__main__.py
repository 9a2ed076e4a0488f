"""Command line of shipway-agent."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console

from shipway_agent.config import (
    DEFAULT_FILE,
    AgentSettings,
    list_options,
    list_retired,
    load_settings,
)
from shipway_agent.errors import AgentError
from shipway_agent.job.command import job_command
from shipway_common.logsetup import say_error, setup_logging
from shipway_common.settings import SettingsError

log = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

_slot_keys = {"agent_id", "slot_type", "visible_gpus", "artificial_slots", "slot_check_timeout_s"}


@click.group()
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-agent."""


main.add_command(job_command)


def _settings_options(*, only: set[str] | None = None) -> Callable[[Command], Command]:
    """Give a command the settings as flags, and --config."""

    def decorate(command: Command) -> Command:
        retired = {option.key for option in list_retired()}
        for option in reversed([*list_options(), *list_retired()]):
            if only is not None and option.key not in only:
                continue
            names = [option.flag, "-l"] if option.key == "log.level" else [option.flag]
            command = click.option(
                *names,
                _parameter(option.key),
                is_flag=False,
                flag_value="true" if option.is_flag else None,
                metavar="" if option.is_flag else "VALUE",
                hidden=option.key in retired,
                help=f"{option.description} [{option.variable}]",
            )(command)
        return click.option(
            "--config",
            "--config-file",
            "config_file",
            type=click.Path(path_type=Path),
            help=f"Settings file. [DET_CONFIG_FILE; {DEFAULT_FILE} if it exists]",
        )(command)

    return decorate


def _parameter(key: str) -> str:
    return key.replace(".", "__")


@main.command()
@_settings_options()
def run(config_file: Path | None, **flags: str | None) -> None:
    """Serve a master: offer this machine's slots and run its containers.

    SIGTERM and SIGINT let go of the containers, which go on; the next start finds them. With
    --drain-on-stop they are ended.
    """
    from shipway_agent.daemon import run_agent

    faulthandler.enable()  # a watchdog that ends us with SIGABRT leaves a trace of each thread
    settings, _ = _load(config_file, flags, needs_master=True)
    setup_logging(settings.log_level, settings.log.format)
    try:
        asyncio.run(run_agent(settings, os.environ))
    except (AgentError, OSError) as error:
        _fail(str(error))


@main.command()
@_settings_options(only=_slot_keys)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def slots(config_file: Path | None, as_json: bool, **flags: str | None) -> None:
    """Show the slots this machine would offer, and why a device is not among them."""
    from shipway_agent.slots.detect import SlotOptions, detect_slots
    from shipway_agent.slots.table import print_table, render_json

    settings, _ = _load(config_file, flags, needs_master=False)
    setup_logging("warning")
    try:
        detection = asyncio.run(detect_slots(SlotOptions.of(settings, os.environ)))
    except AgentError as error:
        _fail(str(error))
    if as_json:
        print(render_json(detection))
    else:
        print_table(detection)


@main.command()
@_settings_options()
def check(config_file: Path | None, **flags: str | None) -> None:
    """Name each missing or unsafe setting; exit status 1 if the agent could not run."""
    from shipway_agent.check import check_settings

    settings, file = _load(config_file, flags, needs_master=False)
    setup_logging("error")
    findings = asyncio.run(check_settings(settings, os.environ, file=file))
    console = Console(highlight=False, soft_wrap=True)
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in findings:
        colour = colours[finding.severity]
        console.print(f"[{colour}]{finding.severity:7}[/]", end=" ")
        console.print(f"{finding.place}: {finding.text}", markup=False)
    if any(finding.severity == "error" for finding in findings):
        sys.exit(1)


def _load(
    config_file: Path | None, flags: Mapping[str, str | None], *, needs_master: bool
) -> tuple[AgentSettings, Path | None]:
    """Read the settings; returns them and the file, if there was one. Ends the program on errors."""
    chosen = config_file or (Path(name) if (name := os.environ.get("DET_CONFIG_FILE")) else None)
    file = chosen or DEFAULT_FILE
    try:
        text: str | None = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = None
        if chosen is not None:
            _fail(f"{file}: there is no such file")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{file}: cannot be read: {error}")
    try:
        settings, warnings = load_settings(
            flags={key.replace("__", "."): value for key, value in flags.items()},
            environ=os.environ,
            file_text=text,
            file_name=str(file) if text is not None else "settings",
            host_name=socket.gethostname(),
            is_root=os.geteuid() == 0,
            needs_master=needs_master,
        )
    except SettingsError as error:
        _fail_settings(error)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return settings, file if text is not None else None


def _fail_settings(error: SettingsError) -> NoReturn:
    problems = [str(problem) for problem in error.problems] or [str(error)]
    say_error("\n".join(f"shipway-agent: {problem}" for problem in problems))
    sys.exit(os.EX_CONFIG)


def _fail(text: str) -> NoReturn:
    say_error(f"shipway-agent: {text}")
    sys.exit(1)


if __name__ == "__main__":
    main()
