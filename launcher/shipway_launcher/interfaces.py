"""Where the pages of a running job can be looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from shipway_launcher.slurm.hostlist import expand_nodes
from shipway_launcher.slurm.rows import JobRow
from shipway_launcher.slurm.states import Phase

_PORTS = {"NOTEBOOK_PORT": "notebook", "TENSORBOARD_PORT": "tensorboard"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UserInterface:
    """A page of a job."""

    kind: str
    location: str


def find_interfaces(manifest: bytes, row: JobRow | None) -> list[UserInterface]:
    """Return the pages of a job, on its first node; none before it runs.

    Args:
        manifest: What was launched.
        row: What Slurm says of the job.
    """
    if row is None or row.state.phase is not Phase.RUNNING:
        return []
    try:
        node = next(iter(expand_nodes(row.nodes)), None)
    except ValueError:  # a form of list that we do not know costs the pages, not the answer
        node = None
    if node is None:
        return []
    found = ((kind, port) for name, kind in _PORTS.items() for port in _values(manifest, name))
    return [UserInterface(kind=kind, location=f"http://{node}:{port}/") for kind, port in found]


def _values(manifest: bytes, name: str) -> Iterable[str]:
    loaded = cast("dict[str, Any]", json.loads(manifest))
    environment: dict[str, str] = loaded["payloads"][0]["launchParameters"].get("environment") or {}
    port = environment.get(name, "")
    return [port] if port.isascii() and port.isdecimal() and 0 < int(port) < 65536 else []
