"""The answer to a question for resources: the log `slurm-resources-info`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from shipway_launcher.carriers.yamltext import quote
from shipway_launcher.slurm.gres import add_gpus
from shipway_launcher.slurm.rows import ClusterRows, NodeRow, PartitionRow

LOG_NAME = "slurm-resources-info"


def render_resources(cluster: ClusterRows) -> str:
    """Write all partitions, in Slurm's order, and each node once."""
    members: dict[str, list[NodeRow]] = {row.name: [] for row in cluster.partitions}
    for node in cluster.nodes:
        for name in node.partitions:
            members.get(name, []).append(node)
    partitions = [_partition(row, members[row.name]) for row in cluster.partitions]
    nodes = [_node(row) for row in cluster.nodes]
    return _list("partitions", partitions) + _list("nodes", nodes)


def _partition(row: PartitionRow, members: Sequence[NodeRow]) -> dict[str, str]:
    serving = [node for node in members if node.is_in_service]
    # With no node in service the configured GPUs still say what kind of partition this is; without
    # them the master would take it for one of CPUs and build jobs for that.
    gpus = add_gpus(node.gpus for node in serving or members)
    used = add_gpus(node.gpus_in_use for node in serving)
    free = gpus.total - used.total if serving else 0
    cpus = sum(node.cpus for node in serving)
    kinds = sorted(add_gpus(node.gpus for node in members).by_type)
    return {
        "partitionName": quote(row.name),
        "default": _flag(row.is_default),
        "totalNodes": str(row.total_nodes),
        "totalAvailableNodes": str(sum(not node.is_allocated for node in serving)),
        "totalAllocatedNodes": str(sum(node.is_allocated for node in serving)),
        "totalGpuSlots": str(gpus.total),
        "totalAvailableGpuSlots": str(max(free, 0)),
        "totalCpuSlots": str(cpus),
        "totalAvailableCpuSlots": str(cpus - sum(node.cpus_in_use for node in serving)),
        "accelerator": quote(",".join(kinds) or ("unconfigured" if gpus.total else "")),
    }


def _node(row: NodeRow) -> dict[str, str]:
    return {
        "name": quote(row.name),
        "partitions": _names(row.partitions),
        "addresses": _names([row.address] if row.address else []),
        "draining": _flag(row.is_draining),
        "allocated": _flag(row.is_allocated),
        "gpuCount": str(row.gpus.total),
        "gpuInUseCount": str(row.gpus_in_use.total),
        "cpuCount": str(row.cpus),
        "cpuInUseCount": str(row.cpus_in_use),
    }


def _list(name: str, items: Sequence[Mapping[str, str]]) -> str:
    if not items:
        return f"{name}: []\n"
    lines = [f"{name}:"]
    for item in items:
        start = "- "
        for key, value in item.items():
            lines.append(f"{start}{key}: {value}")
            start = "  "
    return "\n".join(lines) + "\n"


def _names(names: Iterable[str]) -> str:
    return "[" + ", ".join(quote(name) for name in names) + "]"


def _flag(is_so: bool) -> str:
    return "true" if is_so else "false"
