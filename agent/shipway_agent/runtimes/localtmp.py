"""The promise DET_CONTAINER_LOCAL_TMP=1: nothing is mounted on a task's /tmp, nor below it.

Determined's wrapper of Slurm tasks then removes /tmp and puts a link in its place. On a mount point
that fails; and with a mount below it the removal takes the files of the mounted folder along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from shipway_agent.runtimes.spec import ContainerSpec

VARIABLE = "DET_CONTAINER_LOCAL_TMP"

_tmp = Path("/tmp")  # noqa: S108 (of the container)


def replaces_tmp(spec: ContainerSpec) -> bool:
    """Say whether the task will replace its /tmp, which must then be no mount point."""
    return spec.environment.get(VARIABLE) == "1"


def keep_mounts_from_removal(spec: ContainerSpec, warn: Callable[[str], None]) -> ContainerSpec:
    """Take the variable away from a task that has mounts in /tmp."""
    inside = [mount.target for mount in spec.mounts if Path(mount.target).is_relative_to(_tmp)]
    if not replaces_tmp(spec) or not inside:
        return spec
    warn(f"{VARIABLE} is not set for the task, which would remove the files of {inside[0]}")
    environment = {name: value for name, value in spec.environment.items() if name != VARIABLE}
    return replace(spec, environment=environment)
