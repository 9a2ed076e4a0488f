"""Settings of the resource managers and of the pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field

from shipway_common.settings import Settings
from shipway_master.agents.config import AgentManagerConfig, Scheduler
from shipway_master.durations import DurationS
from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.tasks.defaults import TaskContainerDefaults


def _default_type(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {"type": "agent", **cast("dict[str, Any]", value)}


ResourceManagerConfig = Annotated[
    Annotated[AgentManagerConfig | SlurmManagerConfig, Field(discriminator="type")],
    BeforeValidator(_default_type),
]


class HpcProvider(Settings):
    """A pool that is one partition under another name."""

    type: Literal["hpc"]
    partition: str


class PoolConfig(Settings):
    """One resource pool."""

    pool_name: str = Field(min_length=1)
    description: str = ""
    scheduler: Scheduler | None = None
    """Overrides the resource manager's."""
    max_aux_containers_per_agent: int = Field(default=100, ge=0)
    """How many containers without slots may run on one agent."""
    agent_reconnect_wait: DurationS | None = Field(default=None, ge=0)
    """Overrides the resource manager's."""
    task_container_defaults: TaskContainerDefaults = TaskContainerDefaults()
    provider: HpcProvider | None = None
    """Only for pools of a Slurm resource manager."""


class AdditionalResourceManager(Settings):
    """One more resource manager with its pools."""

    resource_manager: ResourceManagerConfig
    resource_pools: Sequence[PoolConfig] = ()


class ClusterConfigError(ValueError):
    """The resource managers do not fit together."""


def check_managers(
    managers: Sequence[tuple[ResourceManagerConfig, Sequence[PoolConfig]]],
) -> None:
    """Check what no single section can know.

    Raises:
        ClusterConfigError: Two managers place on agents, or names are taken twice.
    """
    if sum(isinstance(manager, AgentManagerConfig) for manager, _ in managers) > 1:
        raise ClusterConfigError("only one resource_manager may have the type agent")
    names = [manager.cluster_name for manager, _ in managers]
    if len(managers) > 1 and len(set(names)) < len(names):
        raise ClusterConfigError("each resource_manager needs a cluster_name of its own")
    pools = [pool.pool_name for _, configs in managers for pool in configs]
    for name in pools:
        if pools.count(name) > 1:
            raise ClusterConfigError(f"resource_pools: {name!r} is there twice")
    for manager, configs in managers:
        for pool in configs:
            if pool.provider is not None and isinstance(manager, AgentManagerConfig):
                raise ClusterConfigError(
                    f"resource_pools: {pool.pool_name!r} has a provider, but its resource_manager "
                    "is of type agent"
                )
