"""Settings of the resource manager that places tasks on node agents."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from shipway_common.settings import Settings
from shipway_master.agents.fitting import FittingPolicy
from shipway_master.durations import DurationS


class Scheduler(Settings):
    """How waiting tasks get their slots."""

    type: Literal["priority", "fair_share"] = "priority"
    """`priority`: smaller priority numbers first, then first come first served; `fair_share`: each
    job gets slots in proportion to its weight, and pre-emptible ones above their share leave."""
    fitting_policy: FittingPolicy = FittingPolicy.BEST
    """`best` fills agents up, `worst` spreads over them."""
    allow_heterogeneous_fits: bool = False
    """Whether a task over several agents may take agents with different numbers of slots."""
    default_priority: int = Field(default=42, ge=1, le=99)
    """Priority of tasks that name none; only with `priority`."""
    preemption: bool = False
    """Whether a waiting task may make pre-emptible ones of a lower priority leave; only with
    `priority`."""

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        foreign = {"default_priority", "preemption"} & self.model_fields_set
        if self.type == "fair_share" and foreign:
            names = " and ".join(sorted(foreign))
            raise ValueError(f"{names} belong to type priority; with fair_share leave them out")
        return self


class AgentManagerConfig(Settings):
    """`resource_manager` of type `agent`."""

    type: Literal["agent"] = "agent"
    cluster_name: str = ""
    """Name shown with the pools."""
    metadata: dict[str, str] = Field(default_factory=dict[str, str])
    """Free data shown with the pools."""
    scheduler: Scheduler = Scheduler()
    default_aux_resource_pool: str = "default"
    """Pool of tasks that need no slot and name no pool."""
    default_compute_resource_pool: str = "default"
    """Pool of tasks that need slots and name no pool."""
    agent_reconnect_wait: DurationS = Field(default=25.0, ge=0)
    """How long an agent that lost its connection may stay away before its tasks are given up."""
    agent_silence_limit: DurationS = Field(default=45.0, ge=1)
    """How long the connection of an agent may be silent before it is taken for dead."""
    agent_start_wait: DurationS = Field(default=30.0, gt=0)
    """How long an agent may take to say that it began with a container."""
