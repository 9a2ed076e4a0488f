"""The subcommands for one job: submit, run, logs, cancel."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from shipway_launcher.backends import make_backend
from shipway_launcher.carriers.table import RUNTIMES, choose_carrier
from shipway_launcher.client import CallFailed
from shipway_launcher.commands.connection import connect, find_dispatch
from shipway_launcher.commands.following import ENDED, LOGS, follow_to_end
from shipway_launcher.commands.options import run_async, settings_options
from shipway_launcher.commands.wish import JobWish, make_manifest
from shipway_launcher.config import LauncherSettings
from shipway_launcher.dispatches.files import check_dispatch_id
from shipway_launcher.dispatches.prepare import prepare
from shipway_launcher.errors import LauncherError
from shipway_launcher.launches import make_site
from shipway_launcher.machines import open_machine
from shipway_launcher.manifest import parse_json, parse_manifest
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.users import Users


def _launch_options(command: Any) -> Any:
    for option in (
        click.option("--dry-run", is_flag=True, help="Print the batch script; needs no launcher."),
        click.option(
            "--user", default="", help="Who runs the job [default: the launcher's own user]."
        ),
        click.option("--id", "dispatch_id", help="Id of the dispatch [default: a new one]."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("manifest", type=click.File("rb"))
@click.option("--follow", "-f", is_flag=True, help="Print the job's output until it has ended.")
@_launch_options
@settings_options
@run_async
async def submit(
    manifest: BinaryIO,
    follow: bool,
    dry_run: bool,
    user: str,
    dispatch_id: str | None,
    settings: LauncherSettings,
) -> None:
    """Launch MANIFEST, and print the dispatch's id.

    It is a JSON file, or - for standard input. With --follow the exit status is the job's.
    """
    body = manifest.read()
    if dry_run:
        click.echo(await _render(body, user, dispatch_id, settings), nl=False)
        return
    await _launch(settings, body, user, dispatch_id, follows=follow)


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="Name of the job [default: that of the program].")
@click.option("--partition", "-p", default="", help="Partition or queue [default: the cluster's].")
@click.option("--nodes", "-N", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--gpus-per-node", "-g", type=click.IntRange(min=1), help="GPUs on each node.")
@click.option("--gpu-type", default="", help="Type of GPU, as the cluster calls it.")
@click.option("--amd", is_flag=True, help="The GPUs are AMD's.")
@click.option("--cpus-per-node", "-c", type=click.IntRange(min=1), help="Cores on each node.")
@click.option("--image", help="Image to run in; without one the node's own system.")
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    help="Container runtime [default: apptainer with an image, sandbox without].",
)
@click.option("--env", "-e", "environment", multiple=True, metavar="NAME[=VALUE]")
@click.option("--mount", "-v", "mounts", multiple=True, metavar="SOURCE:TARGET[:ro]")
@click.option(
    "--workdir",
    "-w",
    type=click.Path(path_type=Path),
    help="Folder to start in, on the nodes [default: this one].",
)
@click.option(
    "--sbatch-arg", "arguments", multiple=True, help="One more option of sbatch (or qsub)."
)
@click.option("--detach", "-d", is_flag=True, help="Print the dispatch's id and go.")
@_launch_options
@settings_options
@run_async
async def run(
    detach: bool,
    dry_run: bool,
    user: str,
    dispatch_id: str | None,
    settings: LauncherSettings,
    **wish: Any,
) -> None:
    """Run COMMAND on each node of a job, and print its output.

    The exit status is the job's. An interrupt (Ctrl-C) cancels the job.
    """
    body = make_manifest(JobWish(**wish), settings.workload_manager)
    if dry_run:
        click.echo(await _render(body, user, dispatch_id, settings), nl=False)
        return
    await _launch(settings, body, user, dispatch_id, follows=not detach)


async def _launch(
    settings: LauncherSettings, body: bytes, user: str, dispatch_id: str | None, *, follows: bool
) -> None:
    async with connect(settings) as client:
        info = await client.launch(body, user=user, dispatch_id=dispatch_id)
        if not follows:
            click.echo(info["dispatchId"])
            return
        status = await follow_to_end(client, info)
    sys.exit(status)


async def _render(
    body: bytes, user: str, dispatch_id: str | None, settings: LauncherSettings
) -> str:
    facts, cluster = SlurmFacts(version=None, mpi_plugins=frozenset()), None
    async with open_machine(settings) as machine:
        users = Users(settings, machine)
        slurm = make_backend(settings, users)
        try:
            facts = await slurm.facts()
            cluster = await slurm.cluster()
        except LauncherError as error:
            click.echo(f"not asked {settings.workload_manager.label}: {error}", err=True)
    manifest = parse_manifest(parse_json(body))
    prepared = prepare(
        manifest,
        choose_carrier(manifest.carriers, settings.workload_manager),
        make_site(settings, facts=facts, cluster=cluster, relay_url=None),
        dispatch_id=check_dispatch_id(dispatch_id or "dry-run"),
        owner=user or users.own.user,
    )
    return prepared.script


@click.command()
@click.argument("dispatch")
@click.option("--log", type=click.Choice(list(LOGS)), help="Only this log.")
@click.option("--lines", "-n", type=click.IntRange(min=1), help="Only the last lines of each.")
@click.option(
    "--follow", "-f", is_flag=True, help="Go on until the job has ended, with its exit status."
)
@settings_options
@run_async
async def logs(
    dispatch: str, log: str | None, lines: int | None, follow: bool, settings: LauncherSettings
) -> None:
    """Print what the job of DISPATCH wrote.

    Its errors are printed on standard error.
    """
    if follow and (log or lines):
        raise click.UsageError("--follow prints output and errors whole: without --log and --lines")
    async with connect(settings) as client:
        info = await find_dispatch(client, dispatch)
        if follow:
            sys.exit(await follow_to_end(client, info, cancels=False))
        payload = next(iter(info["payloadStates"]))
        for kind in _chosen(log):
            data = await client.log(
                info["launchingUser"], dispatch, payload + LOGS[kind], lines=lines
            )
            stream = sys.stderr if kind == "error" and not log else sys.stdout
            stream.buffer.write(data)
            stream.flush()


def _chosen(log: str | None) -> Sequence[str]:
    return [log] if log else ["output", "error"]


@click.command()
@click.argument("dispatches", nargs=-1, required=True, metavar="DISPATCH...")
@click.option("--wait", is_flag=True, help="Wait until the jobs have ended.")
@settings_options
@run_async
async def cancel(dispatches: Sequence[str], wait: bool, settings: LauncherSettings) -> None:
    """Cancel the jobs of dispatches, and print their states."""
    failures = 0
    async with connect(settings) as client:
        for dispatch in dispatches:
            try:
                info = await find_dispatch(client, dispatch)
                owner = info["launchingUser"]
                info = await client.terminate(owner, dispatch)
                while wait and info["state"] not in ENDED:
                    await asyncio.sleep(1)
                    info = await client.status(owner, dispatch)
            except CallFailed as error:
                failures += 1
                click.echo(f"Error: {error}", err=True)
            else:
                click.echo(info["state"])
    if failures:
        sys.exit(1)
