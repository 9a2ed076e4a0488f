"""The subcommands that look at everything: ps, resources, queue."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shipway_launcher.carriers import queues
from shipway_launcher.carriers import resources as resources_query
from shipway_launcher.carriers.table import Purpose, query_name
from shipway_launcher.commands.connection import connect
from shipway_launcher.commands.options import run_async, settings_options
from shipway_launcher.config import LauncherSettings

_WIDE = 200
_STATE_STYLES = {
    "RUNNING": "green",
    "COMPLETED": "dim",
    "FAILED": "red",
    "MISSING": "red",
    "PENDING": "yellow",
}


@click.command()
@click.option("--all", "-a", "ended", is_flag=True, help="Ended ones as well.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
@run_async
async def ps(ended: bool, as_json: bool, settings: LauncherSettings) -> None:
    """List the dispatches that run."""
    async with connect(settings) as client:
        found = await client.list_all(ended=ended)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    table = Table("DISPATCH", "JOB", "STATE", "OWNER", "PAYLOAD", "CHANGED", box=None)
    for info in found:
        table.add_row(
            Text(info["dispatchId"], overflow="fold"),
            info["additionalProperties"].get("job-id", "-"),
            _state(info["state"]),
            info["launchingUser"],
            Text(", ".join(info["payloadStates"]), overflow="fold"),
            info["lastUpdated"],
        )
    _console().print(table)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
@run_async
async def queue(as_json: bool, settings: LauncherSettings) -> None:
    """Show everybody's jobs on the cluster, and why they wait."""
    found = await _ask(settings, Purpose.QUEUES, queues.LOG_NAME)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    if not found:
        click.echo("no job waits or runs")
        return
    table = Table("JOB", "STATE", "USER", "NAME", "PARTITION", "GPUS", "CPUS", "REASON", box=None)
    for job_id, job in found.items():
        waits = job["state"] == "PENDING"
        table.add_row(
            job_id,
            _state(job["state"]),
            Text(job["userName"]),
            Text(job["name"], overflow="fold"),
            Text(job["partition"]),
            *(job[key] for key in ("gpuSlots", "cpuSlots")),
            Text(job["reasonDesc"] if waits else "", overflow="fold"),
        )
    _console().print(table)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@settings_options
@run_async
async def resources(as_json: bool, settings: LauncherSettings) -> None:
    """Show partitions and nodes as the master sees them."""
    found = await _ask(settings, Purpose.RESOURCES, resources_query.LOG_NAME)
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    console = _console()
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


async def _ask(settings: LauncherSettings, purpose: Purpose, log_name: str) -> dict[str, Any]:
    """Launch a query as the master does, and return what its log holds."""
    name = f"shipway-{purpose}"
    carrier = query_name(purpose, settings.workload_manager)
    payload = {"name": name, "carriers": [carrier], "launchParameters": {"mode": "interactive"}}
    manifest = {
        "manifestVersion": "v1",
        "clientMetadata": {"name": name},
        "payloads": [payload],
    }
    async with connect(settings) as client:
        info = await client.launch(json.dumps(manifest).encode())
        owner, dispatch = info["launchingUser"], info["dispatchId"]
        text = await client.log(owner, dispatch, log_name, lines=None)
        await client.terminate(owner, dispatch)
        await client.delete(owner, dispatch)
    found: dict[str, Any] = yaml.safe_load(text) or {}
    return found


def _console() -> Console:
    """Make what tables are printed on: as wide as they are where no terminal sets a width."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def _state(state: str) -> Text:
    return Text(state, style=_STATE_STYLES.get(state, ""))
