"""Agents, slots and their pools as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from shipway_master.agents.agent import Agent, PlacedContainer, Slot
from shipway_master.agents.config import AgentManagerConfig, Scheduler
from shipway_master.agents.devices import Device
from shipway_master.agents.fitting import FittingPolicy
from shipway_master.allocations.life import ResourcesState
from shipway_master.cluster.config import PoolConfig
from shipway_proto.determined.agent.v1 import agent_pb2
from shipway_proto.determined.container.v1 import container_pb2
from shipway_proto.determined.device.v1 import device_pb2
from shipway_proto.determined.job.v1.job_pb2 import QueueStats
from shipway_proto.determined.resourcepool.v1 import resourcepool_pb2 as pools_pb2

_DEVICE_TYPES = {
    "cpu": device_pb2.TYPE_CPU,
    "cuda": device_pb2.TYPE_CUDA,
    "rocm": device_pb2.TYPE_ROCM,
}
_CONTAINER_STATES = {
    ResourcesState.UNKNOWN: container_pb2.STATE_UNSPECIFIED,
    ResourcesState.ASSIGNED: container_pb2.STATE_ASSIGNED,
    ResourcesState.PULLING: container_pb2.STATE_PULLING,
    ResourcesState.STARTING: container_pb2.STATE_STARTING,
    ResourcesState.RUNNING: container_pb2.STATE_RUNNING,
    ResourcesState.TERMINATED: container_pb2.STATE_TERMINATED,
}


def view_device(device: Device) -> device_pb2.Device:
    """Write a device."""
    return device_pb2.Device(
        id=device.id,
        brand=device.brand,
        uuid=device.uuid,
        type=get_device_type(device.type),
    )


def get_device_type(name: str) -> device_pb2.Type.ValueType:
    """The API's number for a device type; unspecified for one that it does not know."""
    return _DEVICE_TYPES.get(name, device_pb2.TYPE_UNSPECIFIED)


def view_container(
    container_id: str, state: ResourcesState, devices: Sequence[Device]
) -> container_pb2.Container:
    """Write a container."""
    return container_pb2.Container(
        id=container_id,
        state=_CONTAINER_STATES[state],
        devices=[view_device(device) for device in devices],
    )


def view_slot(slot: Slot, agent: Agent) -> agent_pb2.Slot:
    """Write a slot; one of an agent that is away, or that is ill, shows as disabled and draining.

    Whatever people decided: it cannot be used, and what runs there goes on.
    """
    is_ill = slot.problem is not None
    message = agent_pb2.Slot(
        id=str(slot.device.id),
        device=view_device(slot.device),
        enabled=slot.enabled and agent.enabled and agent.is_connected and not is_ill,
        draining=slot.draining or _is_away(agent) or is_ill,
    )
    container = agent.containers.get(slot.container_id) if slot.container_id else None
    if container is not None:
        message.container.CopyFrom(_view_placed(container))
    return message


def _view_placed(container: PlacedContainer) -> container_pb2.Container:
    return view_container(container.id, container.state, container.devices)


def _is_away(agent: Agent) -> bool:
    return agent.is_known and agent.session is None


def view_agent(agent: Agent) -> agent_pb2.Agent:
    """Write an agent with its slots and all its containers."""
    message = agent_pb2.Agent(
        id=agent.id,
        addresses=[agent.address],
        enabled=agent.enabled and not _is_away(agent),
        draining=agent.draining or _is_away(agent),
        version=agent.version,
        resource_pools=[agent.pool],
    )
    message.registered_time.FromDatetime(agent.registered_at)
    for number, slot in sorted(agent.slots.items()):
        key = f"/agents/{agent.id}/slots/{number}"
        message.slots[key].CopyFrom(view_slot(slot, agent))
    for container in agent.containers.values():
        message.containers[container.id].CopyFrom(_view_placed(container))
    message.slot_stats.CopyFrom(count_slots(list(message.slots.values())))
    return message


def count_slots(slots: Sequence[agent_pb2.Slot]) -> agent_pb2.SlotStats:
    """Count slots by type and by brand."""
    stats = agent_pb2.SlotStats()
    for slot in slots:
        type_name = device_pb2.Type.Name(slot.device.type)
        for counts in (stats.type_stats[type_name], stats.brand_stats[slot.device.brand]):
            counts.total += 1
            counts.disabled += not slot.enabled
            counts.draining += slot.draining
            if slot.HasField("container"):
                counts.states[container_pb2.State.Name(slot.container.state)] += 1
    return stats


def view_pool(
    pool: PoolConfig,
    config: AgentManagerConfig,
    agents: Sequence[Agent],
    scheduler: Scheduler,
    queue: tuple[int, int],
) -> pools_pb2.ResourcePool:
    """Write a pool of agents.

    Args:
        queue: How many requests wait, and how many have resources.
    """
    slots = [slot for agent in agents for slot in agent.slots.values()]
    types = {slot.device.type for slot in slots}
    connected = [agent for agent in agents if agent.is_connected]
    aux = [c for agent in agents for c in agent.containers.values() if not c.devices]
    by_priority = scheduler.type == "priority"
    is_best = scheduler.fitting_policy is FittingPolicy.BEST
    return pools_pb2.ResourcePool(
        name=pool.pool_name,
        description=pool.description,
        type=pools_pb2.RESOURCE_POOL_TYPE_STATIC,
        num_agents=len(agents),
        slots_available=len(slots),
        slots_used=sum(slot.container_id is not None for slot in slots),
        slot_type=get_device_type(types.pop()) if len(types) == 1 else device_pb2.TYPE_UNSPECIFIED,
        aux_container_capacity=sum(agent.max_aux for agent in connected),
        aux_containers_running=len(aux),
        aux_container_capacity_per_agent=pool.max_aux_containers_per_agent,
        slots_per_agent=-1,
        preemptible=False,
        scheduler_type=pools_pb2.SCHEDULER_TYPE_PRIORITY
        if by_priority
        else pools_pb2.SCHEDULER_TYPE_FAIR_SHARE,
        scheduler_fitting_policy=pools_pb2.FITTING_POLICY_BEST
        if is_best
        else pools_pb2.FITTING_POLICY_WORST,
        location="on-prem",
        details=pools_pb2.ResourcePoolDetail(
            priority_scheduler=pools_pb2.ResourcePoolPrioritySchedulerDetail(
                preemption=scheduler.preemption, default_priority=scheduler.default_priority
            )
        )
        if by_priority
        else pools_pb2.ResourcePoolDetail(),
        stats=QueueStats(queued_count=queue[0], scheduled_count=queue[1]),
        resource_manager_metadata=config.metadata,
        cluster_name=config.cluster_name,
    )
