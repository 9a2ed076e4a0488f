"""Read PBS's queues and nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from shipway_launcher.pbs.parse import load, members, number_of, objects, text_of
from shipway_launcher.slurm.gres import Gpus
from shipway_launcher.slurm.rows import ClusterRows, NodeRow, PartitionRow

_IN_SERVICE = frozenset(
    {"free", "job-busy", "job-exclusive", "job-sharing", "resv-exclusive", "busy"}
)
_DRAINING = frozenset({"offline", "maintenance", "sleep"})


def parse_cluster(queues: str, server: str, nodes: str) -> ClusterRows:
    """Put together what the three answers say.

    Raises:
        ValueError: One of them cannot be read.
    """
    servers = objects(load(server), "Server").values()
    defaults = {text_of(found, "default_queue") for found in servers}
    open_queues = {
        name: attributes
        for name, attributes in objects(load(queues), "Queue").items()
        if _takes_jobs(attributes)
    }
    hosts: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for name, attributes in objects(load(nodes), "nodes").items():
        host = text_of(members(attributes, "resources_available"), "host")
        hosts[host or name].append(attributes)
    rows = tuple(_read_host(name, parts, list(open_queues)) for name, parts in hosts.items())
    return ClusterRows(
        partitions=tuple(
            PartitionRow(
                name=name,
                is_default=name in defaults,
                total_nodes=sum(name in row.partitions for row in rows),
                max_nodes=None,
            )
            for name in open_queues
        ),
        nodes=rows,
    )


def parse_history_setting(server: str) -> bool:
    """Find out whether the server keeps a history of its jobs.

    Raises:
        ValueError: The answer cannot be read.
    """
    servers = objects(load(server), "Server").values()
    return any(text_of(found, "job_history_enable").lower() == "true" for found in servers)


def _takes_jobs(queue: Mapping[str, Any]) -> bool:
    return text_of(queue, "queue_type").startswith(("E", "e")) and all(
        text_of(queue, key).lower() == "true" for key in ("enabled", "started")
    )


def _read_host(name: str, parts: Sequence[Mapping[str, Any]], queues: Sequence[str]) -> NodeRow:
    """Sum up the virtual nodes of one host; what only their parent has is counted once with it."""
    states = {word.strip() for part in parts for word in text_of(part, "state").split(",")}
    cpus, cpus_used = _sum(parts, "ncpus")
    gpus, gpus_used = _sum(parts, "ngpus")
    kinds = {text_of(members(part, "resources_available"), "accel_type") for part in parts} - {""}
    by_type = {kinds.pop(): gpus} if len(kinds) == 1 and gpus else {}
    return NodeRow(
        name=name,
        partitions=tuple(_find_queues(parts, queues)),
        address=next((text for part in parts if (text := text_of(part, "Mom"))), name),
        is_in_service=bool(states & _IN_SERVICE) and not states & _DRAINING,
        is_draining=bool(states & _DRAINING),
        is_allocated=any(part.get("jobs") for part in parts),
        cpus=cpus,
        cpus_in_use=cpus_used,
        gpus=Gpus(total=gpus, by_type=by_type),
        gpus_in_use=Gpus(total=gpus_used),
    )


def _sum(parts: Sequence[Mapping[str, Any]], name: str) -> tuple[int, int]:
    total, used = (
        sum(max(number_of(members(part, kind), name) or 0, 0) for part in parts)
        for kind in ("resources_available", "resources_assigned")
    )
    return total, min(used, total)


def _find_queues(parts: Sequence[Mapping[str, Any]], queues: Sequence[str]) -> list[str]:
    """Find the queues whose jobs a host runs: those it is bound to, else all."""
    bound: set[str] = set()
    for part in parts:
        listed = text_of(members(part, "resources_available"), "Qlist").split(",")
        bound |= {text_of(part, "queue"), *(name.strip() for name in listed)} - {""}
    return [name for name in queues if not bound or name in bound]
