"""The subcommands for people: submit, ps, logs, cancel, resources."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import click
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shipway_launcher.backends import make_backend
from shipway_launcher.carriers import resources as resources_query
from shipway_launcher.carriers.table import choose_carrier
from shipway_launcher.client import CallFailed, LauncherClient
from shipway_launcher.commands.options import run_async, settings_options
from shipway_launcher.config import LauncherSettings
from shipway_launcher.dispatches.files import check_dispatch_id
from shipway_launcher.dispatches.prepare import prepare
from shipway_launcher.errors import LauncherError
from shipway_launcher.launches import make_site
from shipway_launcher.machines import open_machine
from shipway_launcher.manifest import parse_json, parse_manifest
from shipway_launcher.slurm.backend import SlurmFacts
from shipway_launcher.tokens import read_token
from shipway_launcher.users import Users

_STATE_STYLES = {"RUNNING": "green", "COMPLETED": "dim", "FAILED": "red", "MISSING": "red"}
_LOGS = {
    "output": "-output.log",
    "error": "-error.log",
    "submission": "-submission.log",
    "script": "-job.sh",
}
_RESOURCES = json.dumps(
    {
        "manifestVersion": "v1",
        "clientMetadata": {"name": "shipway-resources"},
        "payloads": [
            {
                "name": "shipway-resources",
                "carriers": [
                    "com.cray.analytics.capsules.carriers.hpc.slurm.SlurmResources",
                    "com.cray.analytics.capsules.carriers.hpc.pbs.PbsResources",
                ],
                "launchParameters": {"mode": "interactive"},
            }
        ],
    }
).encode()


@click.command()
@click.argument("manifest", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Print the batch script; no launcher is needed.")
@click.option("--user", default="", help="Who runs the job [default: the launcher's own user].")
@click.option("--id", "dispatch_id", help="Id of the dispatch [default: a new one].")
@settings_options
@run_async
async def submit(
    manifest: BinaryIO,
    dry_run: bool,
    user: str,
    dispatch_id: str | None,
    settings: LauncherSettings,
) -> None:
    """Launch MANIFEST (a JSON file, or - for standard input) and print the dispatch's id."""
    body = manifest.read()
    if dry_run:
        click.echo(await _render(body, user, dispatch_id, settings), nl=False)
        return
    async with _connect(settings) as client:
        info = await client.launch(body, user=user, dispatch_id=dispatch_id)
    click.echo(info["dispatchId"])


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
@click.option("--all", "-a", "ended", is_flag=True, help="Ended ones as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
@run_async
async def ps(ended: bool, as_json: bool, settings: LauncherSettings) -> None:
    """List the dispatches that run."""
    async with _connect(settings) as client:
        found = await client.list_all(ended=ended)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table("DISPATCH", "JOB", "STATE", "OWNER", "PAYLOAD", "CHANGED", box=None)
    for info in found:
        state = info["state"]
        table.add_row(
            Text(info["dispatchId"], overflow="fold"),
            info["additionalProperties"].get("job-id", "-"),
            Text(state, style=_STATE_STYLES.get(state, "")),
            info["launchingUser"],
            Text(", ".join(info["payloadStates"]), overflow="fold"),
            info["lastUpdated"],
        )
    Console().print(table)


@click.command()
@click.argument("dispatch")
@click.option("--log", type=click.Choice(list(_LOGS)), help="Only this log.")
@click.option("--lines", "-n", type=click.IntRange(min=1), help="Only the last lines of each.")
@settings_options
@run_async
async def logs(
    dispatch: str, log: str | None, lines: int | None, settings: LauncherSettings
) -> None:
    """Print what the job of DISPATCH wrote: its output, and on standard error its errors."""
    async with _connect(settings) as client:
        info = await _find(client, dispatch)
        payload = next(iter(info["payloadStates"]))
        for kind in [log] if log else ["output", "error"]:
            data = await client.log(
                info["launchingUser"], dispatch, payload + _LOGS[kind], lines=lines
            )
            stream = sys.stderr if kind == "error" and not log else sys.stdout
            stream.buffer.write(data)
            stream.flush()


@click.command()
@click.argument("dispatch")
@click.option("--wait", is_flag=True, help="Wait until the job has ended.")
@settings_options
@run_async
async def cancel(dispatch: str, wait: bool, settings: LauncherSettings) -> None:
    """Cancel the job of DISPATCH."""
    async with _connect(settings) as client:
        info = await _find(client, dispatch)
        owner = info["launchingUser"]
        info = await client.terminate(owner, dispatch)
        while wait and info["state"] not in ("COMPLETED", "FAILED", "TERMINATED", "MISSING"):
            await asyncio.sleep(1)
            info = await client.status(owner, dispatch)
    click.echo(info["state"])


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
@run_async
async def resources(as_json: bool, settings: LauncherSettings) -> None:
    """Show the cluster's partitions and nodes as the master sees them."""
    async with _connect(settings) as client:
        info = await client.launch(_RESOURCES)
        owner, name = info["launchingUser"], info["dispatchId"]
        text = await client.log(owner, name, resources_query.LOG_NAME, lines=None)
        await client.terminate(owner, name)
        await client.delete(owner, name)
    found: dict[str, Any] = yaml.safe_load(text)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    console = Console()
    partitions = Table(
        "PARTITION", "NODES", "IN USE", "GPUS", "FREE", "CPUS", "FREE", "GPU TYPE", box=None
    )
    for row in found["partitions"]:
        partitions.add_row(
            row["partitionName"] + ("*" if row["default"] else ""),
            *(str(row[key]) for key in ("totalNodes", "totalAllocatedNodes")),
            *(str(row[key]) for key in ("totalGpuSlots", "totalAvailableGpuSlots")),
            *(str(row[key]) for key in ("totalCpuSlots", "totalAvailableCpuSlots")),
            row["accelerator"],
        )
    console.print(partitions)
    nodes = Table("NODE", "PARTITIONS", "GPUS IN USE", "CPUS IN USE", "STATE", box=None)
    for row in found["nodes"]:
        nodes.add_row(
            row["name"],
            ", ".join(row["partitions"]),
            f"{row['gpuInUseCount']}/{row['gpuCount']}",
            f"{row['cpuInUseCount']}/{row['cpuCount']}",
            "draining" if row["draining"] else "allocated" if row["allocated"] else "",
        )
    console.print(nodes)


async def _find(client: LauncherClient, dispatch: str) -> dict[str, Any]:
    for info in await client.list_all(ended=True):
        if info["dispatchId"] == dispatch:
            return info
    raise CallFailed(f"there is no dispatch {dispatch}; `shipway-launcher ps --all` lists them")


@asynccontextmanager
async def _connect(settings: LauncherSettings) -> AsyncGenerator[LauncherClient]:
    try:
        token = read_token(settings.token_file)
    except OSError as error:
        raise CallFailed(f"cannot read the token: {error}") from error
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    scheme = "https" if settings.tls.cert_file else "http"
    async with LauncherClient(
        f"{scheme}://{host}:{settings.port}", token, cert_file=settings.tls.cert_file
    ) as client:
        yield client
