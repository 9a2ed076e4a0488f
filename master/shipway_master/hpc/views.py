"""Partitions and nodes as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime

from shipway_master.agents.views import count_slots, get_device_type
from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.hpc.partitions import Pool, choose_slot_type
from shipway_master.hpc.reading import Node, Partition, Resources
from shipway_proto.determined.agent.v1 import agent_pb2
from shipway_proto.determined.container.v1 import container_pb2
from shipway_proto.determined.device.v1 import device_pb2
from shipway_proto.determined.job.v1.job_pb2 import QueueStats
from shipway_proto.determined.resourcepool.v1 import resourcepool_pb2 as pools_pb2


def view_pool(
    pool: Pool,
    partition: Partition | None,
    config: SlurmManagerConfig,
    queue: tuple[int, int],
) -> pools_pb2.ResourcePool:
    """Write a pool; one whose partition is not there is empty."""
    known = partition or Partition(partitionName=pool.partition)
    in_service = known.available_nodes + known.allocated_nodes
    slot_type = choose_slot_type(config, known, 1)
    slots, free = known.gpu_slots, known.available_gpu_slots
    if slot_type == "cpu":
        slots, free = known.cpu_slots, known.available_cpu_slots
    return pools_pb2.ResourcePool(
        name=pool.name,
        description=pool.description,
        type=pools_pb2.RESOURCE_POOL_TYPE_STATIC,
        num_agents=in_service,
        slots_available=slots,
        slots_used=slots - free,
        slot_type=get_device_type(slot_type),
        aux_container_capacity=known.cpu_slots,
        aux_containers_running=known.cpu_slots - known.available_cpu_slots,
        preemptible=False,
        min_agents=known.total_nodes,
        max_agents=known.total_nodes,
        slots_per_agent=slots // in_service if in_service else 0,
        scheduler_type=pools_pb2.SCHEDULER_TYPE_SLURM,
        scheduler_fitting_policy=pools_pb2.FITTING_POLICY_SLURM,
        location=config.cluster_name or "Slurm",
        details=pools_pb2.ResourcePoolDetail(),
        accelerator=known.accelerator,
        stats=QueueStats(queued_count=queue[0], scheduled_count=queue[1]),
        resource_manager_metadata=config.metadata,
        cluster_name=config.cluster_name,
    )


def view_node(
    node: Node, sample: Resources, config: SlurmManagerConfig, since: datetime
) -> agent_pb2.Agent:
    """Write a node as an agent; which task has which slot only Slurm knows."""
    is_gpu = node.gpu_count > 0
    count, used = (
        (node.gpu_count, node.gpus_in_use) if is_gpu else (node.cpu_count, node.cpus_in_use)
    )
    types = {
        choose_slot_type(config, partition, 1)
        for name in node.partitions
        if (partition := sample.find_partition(name)) is not None
    }
    gpu_type = next((one for one in types if one != "cpu"), "cuda")
    device_type = get_device_type(gpu_type if is_gpu else "cpu")
    message = agent_pb2.Agent(
        id=node.name,
        addresses=node.addresses,
        enabled=not node.draining,
        draining=node.draining,
        resource_pools=node.partitions,
        version="Slurm",
    )
    message.registered_time.FromDatetime(since.astimezone(UTC))
    for number in range(count):
        slot = message.slots[f"/agents/{node.name}/slots/{number}"]
        slot.id = str(number)
        slot.device.CopyFrom(device_pb2.Device(id=number, type=device_type))
        slot.enabled, slot.draining = not node.draining, node.draining
        if number < used:
            slot.container.id = f"{node.name}-{number}"
            slot.container.state = container_pb2.STATE_RUNNING
    message.slot_stats.CopyFrom(count_slots(list(message.slots.values())))
    return message
