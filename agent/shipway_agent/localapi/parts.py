"""What of the agent the local port shows."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from shipway_agent.config import AgentSettings
from shipway_agent.containers.lives import Lives
from shipway_agent.containers.records import Record
from shipway_agent.errors import ContainerRuntimeError
from shipway_agent.master.link import MasterLink
from shipway_agent.profiler.quantities import ContainerUsage, Snapshot
from shipway_agent.profiler.sampler import Sampler
from shipway_agent.runtimes.spec import Answers, ContainerId, Runtime
from shipway_agent.slots.slot import Slot
from shipway_agent.slots.watch import SlotWatch

_SAMPLE_AGE_S = 1.0
_PING_AGE_S = 5.0


@dataclass(slots=True, kw_only=True)
class Parts:
    """The parts of an agent that is registered, or about to be."""

    settings: AgentSettings
    lives: Lives
    link: MasterLink
    runtime: Runtime
    sampler: Sampler
    watch: SlotWatch
    _runtime_problem: str | None = None
    _pinged_s: float | None = field(default=None)

    async def sample(self) -> Snapshot:
        """Look at everything, unless somebody just did."""
        return await self.sampler.sample(max_age_s=_SAMPLE_AGE_S)

    def slots(self) -> list[Slot]:
        """List what is offered, each with its present health."""
        watch = self.watch
        return [replace(slot, problem=watch.problem(slot.uuid)) for slot in watch.offered]

    async def problems(self) -> list[str]:
        """Say what keeps the agent from work, each as a sentence."""
        found: list[str] = []
        if not self.link.is_connected:
            where = f"{self.settings.master_host}:{self.settings.port}"
            found.append(f"not connected to the master at {where}")
        if (problem := await self._ask_runtime()) is not None:
            found.append(f"the container runtime does not answer: {problem}")
        return found

    async def _ask_runtime(self) -> str | None:
        """Ask the runtime for a sign of life, unless somebody just did."""
        now = time.monotonic()
        if self._pinged_s is None or now - self._pinged_s > _PING_AGE_S:
            self._pinged_s = now
            try:
                if isinstance(self.runtime, Answers):
                    await self.runtime.ping()
                self._runtime_problem = None
            except ContainerRuntimeError as error:
                self._runtime_problem = str(error)
        return self._runtime_problem


def task_of(record: Record) -> str:
    """Return the task that a container belongs to; records of older agents do not name it."""
    return record.task_id or record.allocation_id.rpartition(".")[0]


def list_containers(
    parts: Parts, usage: Mapping[ContainerId, ContainerUsage]
) -> list[dict[str, object]]:
    """Describe the containers as JSON; without environment, tokens and arguments.

    Args:
        parts: Whose.
        usage: What is known of those that run, by id.
    """
    return [
        {
            "container_id": record.container.id,
            "state": record.container.state,
            "started_at": used.started_at if (used := usage.get(record.container.id)) else None,
            "description": record.container.description,
            "task_id": task_of(record),
            "allocation_id": record.allocation_id,
            "task_type": record.task_type,
            "trial_id": record.trial_id,
            "image": record.image,
            "runtime": record.runtime,
            "container_runtime_id": handle.native_id if handle is not None else None,
            "network_mode": record.network_mode,
            "ports": record.ports,
            "devices": [
                {"id": one.id, "type": one.type, "brand": one.brand, "uuid": one.uuid}
                for one in record.container.devices or ()
            ],
            "usage": {} if used is None else dict(used.numbers),
            "usage_source": None if used is None else used.source,
        }
        for record, handle in parts.lives.list_all()
    ]
