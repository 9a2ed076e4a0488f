"""`task_container_defaults`: what tasks get that do not say otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from shipway_common.settings import Settings
from shipway_master.tasks.logpolicy import LogPolicies, merge_log_policies
from shipway_master.tasks.model import (
    BindMount,
    DeviceMapping,
    EnvironmentVariables,
    Images,
    RegistryAuth,
    SlurmOptions,
)


class TaskContainerDefaults(Settings):
    """Defaults of the master, a partition or a pool; scalars replace, lists are put together."""

    image: Images | None = None
    """Image by slot type, or one for all."""
    environment_variables: EnvironmentVariables = EnvironmentVariables()
    bind_mounts: Sequence[BindMount] = ()
    """Folders of the hosts that containers see: `host_path`, `container_path`, `read_only`."""
    shm_size_bytes: int | None = Field(default=None, ge=0)
    """Size of /dev/shm; 4 GiB where nobody says otherwise."""
    network_mode: str | None = None
    """Docker's network mode, `bridge` by default."""
    work_dir: str | None = None
    """Folder to start in."""
    force_pull_image: bool | None = None
    """Ask the registry for the image although it is there."""
    registry_auth: RegistryAuth | None = None
    """Who pulls images: `username`, `password`, `serveraddress`."""
    add_capabilities: Sequence[str] = ()
    """Capabilities of Linux that containers get."""
    drop_capabilities: Sequence[str] = ()
    """Those that they lose."""
    devices: Sequence[DeviceMapping] = ()
    """Device files that they get: HOST:CONTAINER[:MODE]."""
    slurm: SlurmOptions = SlurmOptions()
    gloo_port_range: str | None = None
    """GLOO_PORT_RANGE of the tasks."""
    nccl_port_range: str | None = None
    """NCCL_PORT_RANGE of the tasks."""
    dtrain_network_interface: str | None = None
    """DET_INTER_NODE_NETWORK_INTERFACE of the tasks."""
    preemption_timeout: int | None = Field(default=None, ge=1)
    """Seconds that a task has to leave after it was asked to; 3600 by default."""
    log_policies: LogPolicies = ()
    """What lines in the logs of trials mean for them."""
    startup_hook: str | None = None
    """Not run by this master, which says so at its start."""
    pbs: Any = None
    """Accepted; there is no PBS here."""


def merge_defaults(
    low: TaskContainerDefaults, high: TaskContainerDefaults
) -> TaskContainerDefaults:
    """Put *high* over *low*."""
    values: dict[str, Any] = {}
    for name in TaskContainerDefaults.model_fields:
        below, above = getattr(low, name), getattr(high, name)
        if name == "environment_variables":
            values[name] = below.extended(above)
        elif name == "slurm":
            values[name] = below.overridden(above)
        elif name == "log_policies":
            values[name] = merge_log_policies(above, below)
        elif isinstance(below, tuple | list):
            values[name] = [*below, *above]
        else:
            values[name] = below if above is None else above
    return TaskContainerDefaults.model_construct(**values)
