"""A shim as a unit of systemd's, where the agent is a service of it.

Such a task is no part of the agent's own unit: what ends, restricts or measures the one leaves the
other alone. It has its own cgroup, and none of the agent's hardening, below shipway-tasks.slice,
where a site can limit all tasks together.
"""

from __future__ import annotations

from collections.abc import Sequence

SLICE = "shipway-tasks.slice"

_properties = (
    "Delegate=yes",  # the task, or its container runtime, may divide its cgroup
    "TasksMax=infinity",
    "LimitMEMLOCK=infinity",  # RDMA
    "LimitNOFILE=65536",
    "OOMPolicy=continue",  # the shim tells the master; others of the task may go on
    "OOMScoreAdjust=-500",  # of the shim alone: it gives its task a usual one
    "TimeoutStartSec=60",
    "TimeoutStopSec=30",
    "StandardInput=null",
    "StandardOutput=null",
    "StandardError=null",
)


def unit_name(container_id: str) -> str:
    """Return the name of a container's unit; the id is one that may name a folder."""
    return f"shipway-task-{container_id}.service"


def as_unit(argv: Sequence[str], container_id: str, environment_path: str) -> list[str]:
    """Return the command that has systemd run *argv*, a shim; it ends as *argv* ends.

    Args:
        argv: Returns when the shim, which it leaves behind, has started the task.
        container_id: Whose.
        environment_path: The shim's PATH, all that it has of an environment.
    """
    return [
        *("systemd-run", "--quiet", "--collect", "--no-ask-password", "--service-type=forking"),
        f"--unit={unit_name(container_id)}",
        f"--description=Task {container_id} of Shipway",
        f"--slice={SLICE}",
        f"--setenv=PATH={environment_path}",
        *(f"--property={one}" for one in _properties),
        "--",
        *argv,
    ]
