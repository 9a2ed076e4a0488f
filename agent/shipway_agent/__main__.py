"""Command line of shipway-agent."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from shipway_agent.config import DEFAULT_FILE, changed_settings, list_options, list_retired
from shipway_agent.errors import AgentError, SettingsUnreadable
from shipway_agent.job.command import job_command
from shipway_agent.loading import Loaded, load_process_settings
from shipway_common.logsetup import say_error, setup_logging
from shipway_common.settings import Problem, SettingsError

if TYPE_CHECKING:
    from shipway_agent.checks.finding import Finding

log = logging.getLogger(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])

_slot_keys = {"agent_id", "slot_type", "visible_gpus", "artificial_slots", "slot_check_timeout_s"}


class _AsTheOriginal(click.Group):
    """Options without a command mean `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in {"--help", "--version"}:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_AsTheOriginal)
@click.version_option(package_name="shipway")
def main() -> None:
    """Run and inspect shipway-agent. Without a command, options are those of `run`."""


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
    faulthandler.enable()  # a watchdog that ends us with SIGABRT leaves a trace of each thread
    try:
        loaded = _load(config_file, flags, needs_master=True)
        from shipway_agent.checks.files import find_unsafe
        from shipway_agent.daemon import run_agent

        if problems := find_unsafe(loaded.settings, loaded.file):
            raise SettingsError(problems)
        setup_logging(loaded.settings.log_level, loaded.settings.log.format)
        for one in loaded.warnings:
            log.warning("%s", one)
        log.info("settings", extra=changed_settings(loaded.settings))
        asyncio.run(run_agent(loaded.settings, os.environ))
    except SettingsError as error:
        _fail_settings(error)
    except (AgentError, OSError) as error:
        _fail(str(error))


@main.command()
@_settings_options(only=_slot_keys)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def slots(config_file: Path | None, as_json: bool, **flags: str | None) -> None:
    """Show the slots of this machine, and why a device is not one."""
    from shipway_agent.slots.detect import SlotOptions, detect_slots
    from shipway_agent.slots.table import print_table, render_json

    setup_logging("warning")
    try:
        settings = _load(config_file, flags, needs_master=False).settings
        detection = asyncio.run(detect_slots(SlotOptions.of(settings, os.environ)))
    except SettingsError as error:
        _fail_settings(error)
    except AgentError as error:
        _fail(str(error))
    if as_json:
        print(render_json(detection))
    else:
        print_table(detection)


@main.command()
@_settings_options()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def check(config_file: Path | None, as_json: bool, **flags: str | None) -> None:
    """Name each missing or unsafe setting.

    Exit status 1 if the agent could not run.
    """
    from shipway_agent.checks.report import is_fit, print_lines, render_json

    setup_logging("error")
    findings = asyncio.run(_check(config_file, flags))
    if as_json:
        print(render_json(findings))
    else:
        print_lines(findings)
    if not is_fit(findings):
        sys.exit(1)


async def _check(config_file: Path | None, flags: Mapping[str, str | None]) -> list[Finding]:
    from shipway_agent.check import check_settings
    from shipway_agent.checks.finding import error, warning

    try:
        loaded = await asyncio.to_thread(_load, config_file, flags, needs_master=False)
    except SettingsError as problem:
        problems = problem.problems or (Problem("settings", str(problem)),)
        return [error(one.place, one.text) for one in problems]
    except SettingsUnreadable as problem:
        return [error("settings", str(problem))]
    return [
        *(warning(one.place, one.text) for one in loaded.warnings),
        *await check_settings(loaded.settings, os.environ, file=loaded.file),
    ]


def _load(
    config_file: Path | None, flags: Mapping[str, str | None], *, needs_master: bool
) -> Loaded:
    return load_process_settings(
        config_file,
        {key.replace("__", "."): value for key, value in flags.items()},
        environ=os.environ,
        needs_master=needs_master,
    )


def _fail_settings(error: SettingsError) -> NoReturn:
    problems = [str(problem) for problem in error.problems] or [str(error)]
    say_error("\n".join(f"shipway-agent: {problem}" for problem in problems))
    sys.exit(os.EX_CONFIG)


def _fail(text: str) -> NoReturn:
    say_error(f"shipway-agent: {text}")
    sys.exit(1)


if __name__ == "__main__":
    main()
