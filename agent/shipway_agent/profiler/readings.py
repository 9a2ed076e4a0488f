"""From snapshots to the numbers of one task, by the names that the master and its users know.

A number that a source cannot tell is left out: missing is not zero.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from shipway_agent.profiler.quantities import GpuUsage, NodeUsage, Numbers, Quantity, Snapshot
from shipway_agent.runtimes.spec import ContainerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What a number says, and of which GPU."""

    name: str
    gpu_uuid: str = ""


Readings = Mapping[Series, float]

_rates: Mapping[str, tuple[Quantity, ...]] = {
    "disk_iops": (Quantity.DISK_READS, Quantity.DISK_WRITES),
    "disk_throughput_read": (Quantity.DISK_READ_BYTES,),
    "disk_throughput_write": (Quantity.DISK_WRITTEN_BYTES,),
    "net_throughput_sent": (Quantity.NETWORK_SENT,),
    "net_throughput_recv": (Quantity.NETWORK_RECEIVED,),
}
"""Per second."""
_of_gpu: Mapping[str, tuple[Quantity, float]] = {
    "gpu_util": (Quantity.UTILIZATION, 100),
    "gpu_free_memory": (Quantity.MEMORY_FREE, 1),
    "gpu_used_memory": (Quantity.MEMORY_USED, 1),
    "gpu_temperature": (Quantity.TEMPERATURE, 1),
    "gpu_power": (Quantity.POWER, 1),
}


def task_readings(
    before: Snapshot | None, now: Snapshot, container_id: ContainerId, gpus: Collection[str]
) -> Readings:
    """Return what one task did between two snapshots, and how it stands.

    Args:
        before: The last one; None: there are no rates yet.
        now: The present one.
        container_id: The task's container.
        gpus: The task's GPUs, by UUID or its beginning, or by index.
    """
    found: dict[Series, float] = {}
    for gpu in now.gpus:
        if _is_named(gpu, gpus):
            found |= {
                Series(name=name, gpu_uuid=gpu.uuid): round(gpu.numbers[quantity] * factor, 6)
                for name, (quantity, factor) in _of_gpu.items()
                if quantity in gpu.numbers
            }
    usage = now.containers.get(container_id)
    if usage is None:
        return found
    numbers = usage.numbers
    if Quantity.MEMORY_FREE in numbers:
        found[Series(name="memory_free")] = numbers[Quantity.MEMORY_FREE]
    if Quantity.FILESYSTEM_SIZE in numbers and Quantity.FILESYSTEM_FREE in numbers:
        free_part = numbers[Quantity.FILESYSTEM_FREE] / numbers[Quantity.FILESYSTEM_SIZE]
        found[Series(name="disk_util")] = 100 * (1 - free_part)
    former = None if before is None else before.containers.get(container_id)
    if before is not None and former is not None:
        passed_s = now.clock_s - before.clock_s
        found |= _read_rates(former.numbers, numbers, passed_s)
        found |= _read_cpu(former.numbers, numbers, passed_s, now.node)
    return found


def _read_rates(before: Numbers, now: Numbers, passed_s: float) -> Iterator[tuple[Series, float]]:
    for name, quantities in _rates.items():
        grown = [_growth(before, now, quantity) for quantity in quantities]
        if passed_s > 0 and None not in grown:
            yield Series(name=name), sum(one for one in grown if one is not None) / passed_s


def _read_cpu(
    before: Numbers, now: Numbers, passed_s: float, node: NodeUsage
) -> Iterator[tuple[Series, float]]:
    """Say how busy the processors that the task may use were with it, in percent."""
    used_s = _growth(before, now, Quantity.CPU_SECONDS)
    processors = now.get(Quantity.CPU_LIMIT) or node.cpus
    if used_s is not None and passed_s > 0 and processors:
        percent = 100 * used_s / (passed_s * processors)
        # The kernel's clock of a group and ours are read a moment apart.
        yield Series(name="cpu_util_simple"), min(100.0, percent)


def _growth(before: Numbers, now: Numbers, quantity: Quantity) -> float | None:
    """Return by how much a counter grew; None if it is not told, or began anew."""
    if quantity not in before or quantity not in now or now[quantity] < before[quantity]:
        return None
    return now[quantity] - before[quantity]


def _is_named(gpu: GpuUsage, names: Collection[str]) -> bool:
    """Tell whether a GPU is among *names*, as CUDA_VISIBLE_DEVICES may spell them."""
    uuid = gpu.uuid.lower()
    for name in names:
        lowered = name.lower()
        if lowered.isdigit():
            if gpu.parent_uuid is None and int(lowered) == gpu.index:
                return True
        elif lowered and uuid.startswith(lowered):
            return True
    return False
