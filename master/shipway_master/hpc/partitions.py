"""Partitions as resource pools: names, slot types and limits; pure functions over one sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shipway_master.cluster.config import PoolConfig
from shipway_master.cluster.manager import Request, Unfulfillable
from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.hpc.needs import Needs, SlotType, compute_needs
from shipway_master.hpc.reading import Partition, Resources
from shipway_master.tasks.defaults import TaskContainerDefaults, merge_defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A partition, or another name for one."""

    name: str
    partition: str
    description: str
    defaults: TaskContainerDefaults


def list_pools(
    config: SlurmManagerConfig, configured: Sequence[PoolConfig], sample: Resources | None
) -> list[Pool]:
    """The pools: each partition, then the configured ones that lie on a partition."""
    pools: list[Pool] = []
    own = {pool.pool_name: pool for pool in configured if pool.provider is None}
    for partition in sample.partitions if sample is not None else ():
        override, plain = config.find_override(partition.name), own.get(partition.name)
        defaults = override.task_container_defaults
        if plain is not None:
            defaults = merge_defaults(defaults, plain.task_container_defaults)
        description = (plain.description if plain else "") or override.description
        pools.append(
            Pool(
                name=partition.name,
                partition=partition.name,
                description=description or f"Slurm partition {partition.name}",
                defaults=defaults,
            )
        )
    for pool in configured:
        if pool.provider is not None:
            override = config.find_override(pool.provider.partition)
            pools.append(
                Pool(
                    name=pool.pool_name,
                    partition=pool.provider.partition,
                    description=pool.description
                    or f"Slurm partition {pool.provider.partition} under another name",
                    defaults=merge_defaults(
                        override.task_container_defaults, pool.task_container_defaults
                    ),
                )
            )
    return pools


def choose_default_pools(
    config: SlurmManagerConfig, sample: Resources | None
) -> tuple[str | None, str | None]:
    """The pools for tasks that name none: with slots, and without."""
    partitions = sample.partitions if sample is not None else ()
    by_slurm = next((one for one in partitions if one.is_default), None)
    aux = by_slurm or (partitions[-1] if partitions else None)
    compute = aux
    if by_slurm is None or not by_slurm.gpu_slots:
        with_gpus = [one for one in partitions if one.gpu_slots and not one.is_default]
        compute = with_gpus[-1] if with_gpus else aux
    return (
        config.default_compute_resource_pool or (compute.name if compute else None),
        config.default_aux_resource_pool or (aux.name if aux else None),
    )


def choose_slot_type(config: SlurmManagerConfig, partition: Partition, slots: int) -> SlotType:
    """What a slot is in this partition."""
    override = config.find_override(partition.name)
    if slots == 0:
        return "cpu"
    chosen = override.slot_type or config.slot_type
    return chosen or ("cuda" if partition.gpu_slots else "cpu")


def compute_request_needs(
    config: SlurmManagerConfig, partition: Partition, request: Request
) -> tuple[SlotType, Needs]:
    """What Slurm is asked for on behalf of a request."""
    slot_type = choose_slot_type(config, partition, request.slots)
    needs = compute_needs(
        request.slots,
        slot_type,
        slots_per_node=request.slots_per_node,
        single_node=request.is_single_agent,
        tres=config.tres_supported,
        gres=config.gres_supported,
    )
    return slot_type, needs


def check_fits(config: SlurmManagerConfig, sample: Resources, pool: Pool, request: Request) -> None:
    """Refuse what the partition could not hold if it were empty.

    Nodes that are down count as far as the launcher still knows what they have; where it knows
    nothing, Slurm is left to decide.

    Raises:
        Unfulfillable: With the numbers.
    """
    partition = sample.find_partition(pool.partition)
    if partition is None:
        raise Unfulfillable(
            f"resource pool {pool.name} is configured to use partition '{pool.partition}' that "
            "does not exist -- verify the cluster configuration"
        )
    slot_type, needs = compute_request_needs(config, partition, request)
    is_cpu = slot_type == "cpu"
    word = "CPUs" if is_cpu else "GPUs"
    total = partition.cpu_slots if is_cpu else partition.gpu_slots
    if total and request.slots > total:
        raise Unfulfillable(
            f"the task asks for {request.slots} slots, but partition '{partition.name}' has "
            f"{total} {word}"
        )
    per_node = needs.slots_per_container
    sizes = [
        node.cpu_count if is_cpu else node.gpu_count for node in sample.nodes_of(partition.name)
    ]
    if per_node is not None and sizes and per_node > max(sizes) > 0:
        raise Unfulfillable(
            f"the task asks for {per_node} slots on one node, but the largest node of partition "
            f"'{partition.name}' has {max(sizes)} {word}; slurm.slots_per_node spreads a task over "
            "nodes"
        )
