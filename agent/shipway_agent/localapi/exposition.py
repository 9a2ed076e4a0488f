"""Everything that is measured, as families of Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from shipway_agent.localapi.parts import Parts, task_of
from shipway_agent.profiler.quantities import NodeUsage, Numbers, Quantity, Snapshot, counters

_PREFIX = "shipway_agent"
_OWNER = ("container_id", "task_id", "allocation_id")
_container_help: Mapping[Quantity, str] = {
    Quantity.CPU_SECONDS: "Processor time of the container's processes, ended ones included.",
    Quantity.CPU_LIMIT: "How many processors it may keep busy at most.",
    Quantity.MEMORY_USED: "Memory that it holds: its cgroup's with cache, or all that is resident.",
    Quantity.MEMORY_WORKING_SET: "Memory that it holds, without cache that can go at once.",
    Quantity.MEMORY_LIMIT: "The lowest limit of memory that it is under.",
    Quantity.MEMORY_FREE: "Memory that it could still get.",
    Quantity.DISK_READ_BYTES: "What it read from disks.",
    Quantity.DISK_WRITTEN_BYTES: "What it wrote to disks.",
    Quantity.DISK_READS: "Its reads from disks.",
    Quantity.DISK_WRITES: "Its writes to disks.",
    Quantity.NETWORK_RECEIVED: "What its own network received; not told on the machine's network.",
    Quantity.NETWORK_SENT: "What its own network sent; not told on the machine's network.",
    Quantity.FILESYSTEM_SIZE: "Size of the file system below its /.",
    Quantity.FILESYSTEM_FREE: "What users can still write below its /.",
}
_gpu_help: Mapping[Quantity, str] = {
    Quantity.UTILIZATION: "Part of the time in which the GPU did something, 0 to 1.",
    Quantity.MEMORY_TOTAL: "Memory of the GPU or MIG instance.",
    Quantity.MEMORY_USED: "Memory that is in use.",
    Quantity.MEMORY_FREE: "Memory that is free.",
    Quantity.TEMPERATURE: "Temperature of the GPU.",
    Quantity.POWER: "Electric power that the GPU draws.",
}
_memory_help: Mapping[Quantity, str] = {
    Quantity.MEMORY_TOTAL: "Memory of the node.",
    Quantity.MEMORY_FREE: "Memory that programs could still get without swapping.",
}
_disk_help: Mapping[Quantity, str] = {
    Quantity.DISK_READ_BYTES: "What was read from the disk.",
    Quantity.DISK_WRITTEN_BYTES: "What was written to the disk.",
    Quantity.DISK_READS: "Reads from the disk.",
    Quantity.DISK_WRITES: "Writes to the disk.",
}
_network_help: Mapping[Quantity, str] = {
    Quantity.NETWORK_RECEIVED: "What the interface received.",
    Quantity.NETWORK_SENT: "What the interface sent.",
}
_filesystem_help: Mapping[Quantity, str] = {
    Quantity.FILESYSTEM_SIZE: "Size of the file system that has the path.",
    Quantity.FILESYSTEM_FREE: "What users can still write to it.",
}

Rows = Iterable[tuple[Sequence[str], Numbers]]


class Families(Collector):
    """One answer to one scrape; a number that is not known has no sample."""

    def __init__(self, agent_id: str, parts: Parts | None, snapshot: Snapshot | None) -> None:
        """Take what there is; it is read in another thread later.

        Args:
            agent_id: As the master knows the agent.
            parts: The parts of the agent; None: it is not registered.
            snapshot: What was measured.
        """
        self._families: list[Metric] = [
            *_agent_families(agent_id, parts, snapshot),
        ]
        if parts is not None and snapshot is not None:
            self._families += [*_node_families(snapshot.node), *_task_families(parts, snapshot)]

    def collect(self) -> Iterable[Metric]:
        """Give all families, and those of this process that everybody names alike."""
        yield from self._families
        yield from ProcessCollector(registry=None).collect()


def _agent_families(
    agent_id: str, parts: Parts | None, snapshot: Snapshot | None
) -> Iterator[Metric]:
    build = InfoMetricFamily(f"{_PREFIX}_build", "This agent.")
    build.add_metric([], {"version": version("shipway"), "agent_id": agent_id})
    yield build
    is_connected = parts is not None and parts.link.is_connected
    yield GaugeMetricFamily(
        f"{_PREFIX}_connected", "Whether the master is connected.", value=float(is_connected)
    )
    if parts is None or snapshot is None:
        return
    yield GaugeMetricFamily(
        f"{_PREFIX}_sample_duration_seconds",
        "How long the last look at everything took.",
        value=snapshot.took_s,
    )
    labels = ("slot_id", "type", "device_uuid")
    health = GaugeMetricFamily(
        f"{_PREFIX}_slot_healthy", "Whether a slot is fit for use.", labels=labels
    )
    for slot in parts.slots():
        health.add_metric((str(slot.id), slot.type, slot.uuid), float(slot.problem is None))
    yield health
    states = Counter(record.container.state for record, _ in parts.lives.list_all())
    count = GaugeMetricFamily(f"{_PREFIX}_containers", "Containers by state.", labels=("state",))
    for state, number in states.items():
        count.add_metric((state,), number)
    yield count


def _node_families(node: NodeUsage) -> Iterator[Metric]:
    if node.cpus:
        yield GaugeMetricFamily(f"{_PREFIX}_node_cpus", "Processors on line.", value=node.cpus)
    busy = CounterMetricFamily(
        f"{_PREFIX}_node_cpu_seconds", "Time of all processors, by what they did.", labels=("mode",)
    )
    for mode, seconds in node.cpu_seconds.items():
        busy.add_metric((mode,), seconds)
    yield busy
    yield from _families("node", _memory_help, (), [((), node.memory)])
    for help_texts, label, table in (
        (_disk_help, "device", node.disks),
        (_network_help, "interface", node.networks),
        (_filesystem_help, "path", node.filesystems),
    ):
        rows = [((name,), numbers) for name, numbers in table.items()]
        yield from _families("node", help_texts, (label,), rows)


def _task_families(parts: Parts, snapshot: Snapshot) -> Iterator[Metric]:
    info = InfoMetricFamily(f"{_PREFIX}_container", "A container that runs.", labels=_OWNER)
    started = GaugeMetricFamily(
        f"{_PREFIX}_container_start_time_seconds",
        "When its first process began, since 1970.",
        labels=_OWNER,
    )
    rows: list[tuple[Sequence[str], Numbers]] = []
    owners: dict[str, Sequence[str]] = {}
    for record, handle in parts.lives.list_all():
        usage = snapshot.containers.get(record.container.id)
        owner = (record.container.id, task_of(record), record.allocation_id)
        owners |= {device.uuid: owner for device in record.container.devices or ()}
        if usage is None or handle is None:
            continue
        words = {
            "container_runtime_id": handle.native_id,
            "task_type": record.task_type,
            "image": record.image,
            "source": usage.source,
        }
        info.add_metric(owner, words)
        started.add_metric(owner, usage.started_at)
        rows.append((owner, usage.numbers))
    yield info
    yield started
    yield from _families("container", _container_help, _OWNER, rows)
    yield from _gpu_families(snapshot, owners)


def _gpu_families(snapshot: Snapshot, owners: Mapping[str, Sequence[str]]) -> Iterator[Metric]:
    """Give the GPUs with whose they are; the labels of one that is nobody's are empty."""
    info = InfoMetricFamily(f"{_PREFIX}_gpu", "A GPU or MIG instance.", labels=("gpu_uuid",))
    rows: list[tuple[Sequence[str], Numbers]] = []
    for gpu in snapshot.gpus:
        words = {"gpu_index": str(gpu.index), "name": gpu.name, "parent": gpu.parent_uuid or ""}
        info.add_metric((gpu.uuid,), words)
        rows.append(((gpu.uuid, *owners.get(gpu.uuid, ("", "", ""))), gpu.numbers))
    yield info
    yield from _families("gpu", _gpu_help, ("gpu_uuid", *_OWNER), rows)


def _families(
    scope: str, help_texts: Mapping[Quantity, str], labels: Sequence[str], rows: Rows
) -> Iterator[Metric]:
    """Make one family of each quantity, with a sample for each row that has it."""
    rows = list(rows)
    for quantity, text in help_texts.items():
        kind = CounterMetricFamily if quantity in counters else GaugeMetricFamily
        family = kind(f"{_PREFIX}_{scope}_{quantity}", text, labels=labels)
        for values, numbers in rows:
            if quantity in numbers:
                family.add_metric(values, numbers[quantity])
        if family.samples:
            yield family
