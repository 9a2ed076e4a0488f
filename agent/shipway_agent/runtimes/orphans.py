"""Processes of a container that its engine has lost sight of."""

from __future__ import annotations

import logging
from pathlib import Path

from shipway_agent.runtimes.processes import all_processes, kill_all

log = logging.getLogger(__name__)


def kill_orphans(native_id: str) -> None:
    """Kill all processes of this host whose cgroup carries the id of a container; blocking."""
    mark = native_id.encode("ascii")
    found = [process for process in all_processes() if mark in _cgroup_of(process.pid)]
    if found:
        pids = [process.pid for process in found]
        log.warning("killing what an engine has lost sight of", extra={"pids": pids})
        kill_all(found)


def _cgroup_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cgroup").read_bytes()
    except OSError:  # it has ended
        return b""
