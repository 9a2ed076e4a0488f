"""The Slurm half of the demo: which partition, which settings, and how the notice is sent."""

from __future__ import annotations

import asyncio
import getpass
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.parts import find_free_port


class SlurmMissing(Exception):
    """Slurm does not answer; the text says what was asked and what came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    """Settings files of the two daemons that meet over Slurm."""

    launcher: Path
    master: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSite:
    """The cluster that `sinfo` of this machine speaks of."""

    partition: str
    nodes: int
    is_local: bool
    """Every node is this very machine."""

    def write_configs(self, folder: Path, launcher_port: int, master_port: int) -> Configs:
        """Write the launcher's and the master's settings for this cluster into *folder*."""
        token = folder / "launcher.token"
        relay_port = find_free_port()
        relay_host = "127.0.0.1" if self.is_local else socket.getfqdn()
        launcher = {
            "host": "127.0.0.1",
            "port": launcher_port,
            "auth_file": str(token),
            "user_name": getpass.getuser(),
            "job_storage_root": str(folder / "launcher"),
            "relay": {
                "enabled": True,
                "host": "127.0.0.1" if self.is_local else "0.0.0.0",  # noqa: S104 (nodes call it)
                "port": relay_port,
                "advertised_url": f"http://{relay_host}:{relay_port}",
                "master": f"http://127.0.0.1:{master_port}",
            },
        }
        master = {
            "security": {"default_task": {"user": getpass.getuser()}},
            "resource_manager": {"type": "agent"},
            "additional_resource_managers": [
                {
                    "resource_manager": {
                        "type": "slurm",
                        "cluster_name": "slurm",
                        "host": "127.0.0.1",
                        "port": launcher_port,
                        "auth_file": str(token),
                        "master_host": "127.0.0.1",
                        "master_port": master_port,
                        "container_run_type": "sandbox",
                        "slot_type": "cpu",
                    }
                }
            ],
        }
        return Configs(
            launcher=_write_yaml(folder / "launcher.yaml", launcher),
            master=_write_yaml(folder / "master.yaml", master),
        )

    async def send_notice(self, allocation_id: str) -> None:
        """Send the TERM that Slurm itself sends to a job's steps when it is to be pre-empted."""
        listing = await _ask("squeue", "-h", "-t", "running", "-o", "%i|%j")
        found = [
            job_id
            for job_id, _, name in (line.partition("|") for line in listing.splitlines())
            if name.endswith(allocation_id)
        ]
        if len(found) != 1:
            raise SlurmMissing(f"no single running job of {allocation_id} in squeue:\n{listing}")
        await _ask("scancel", "--signal=TERM", found[0])


def _write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False))
    return path


async def find_site() -> SlurmSite:
    """Ask `sinfo` for the default partition and its idle nodes.

    Raises:
        SlurmMissing: There is no `sinfo`, it does not answer, or no partition has an idle node.
    """
    listing = await _ask("sinfo", "-h", "-o", "%P|%D|%T")
    idle: dict[str, int] = {}
    default = None
    for line in listing.splitlines():
        found = re.fullmatch(r"([^|*]+)(\*?)\|(\d+)\|(\S+)", line.strip())
        if not found:
            continue
        if found[2]:
            default = found[1]
        if found[4].startswith(("idle", "mixed")):
            idle[found[1]] = idle.get(found[1], 0) + int(found[3])
    partition = default if default in idle else next(iter(idle), None)
    if partition is None:
        raise SlurmMissing(f"no partition with an idle node in the answer of sinfo:\n{listing}")
    addresses = set((await _ask("sinfo", "-h", "-N", "-p", partition, "-o", "%o")).split())
    return SlurmSite(
        partition=partition,
        nodes=2 if idle[partition] > 1 else 1,
        is_local=addresses <= {"127.0.0.1", "localhost", socket.gethostname()},
    )


async def _ask(*argv: str, limit_s: float = 15) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise SlurmMissing(f"{argv[0]} is not on PATH") from error
    try:
        async with asyncio.timeout(limit_s):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise SlurmMissing(f"{argv[0]} did not answer in {limit_s:g} s") from None
    if process.returncode:
        text = err.decode(errors="replace").strip()
        raise SlurmMissing(f"{argv[0]} exited {process.returncode}: {text[-500:]}")
    return out.decode(errors="replace")
