"""From what a job needs to PBS's select statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shipway_launcher.errors import WrongRequest
from shipway_launcher.manifest import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is asked for, and what the user should know about it."""

    select: str
    scatters: bool
    """Whether each chunk must be on a host of its own; else PBS may put several on one."""
    notes: tuple[str, ...] = ()


def select_chunks(resources: Resources, wanted: Mapping[str, str]) -> Selection:
    """Choose number and content of the chunks; on each host that they are on one agent is started.

    Args:
        resources: What the manifest asks for.
        wanted: What the user wants in each chunk. What the manifest says itself does not count:
            how many GPUs, and of a job without GPUs how many CPUs.

    Raises:
        WrongRequest: The combination makes no sense.
    """
    chunks, own = _chunks(resources)
    ours = {"ngpus"} if _has_gpus(resources) else {"ncpus"}
    more = {name: value for name, value in wanted.items() if name not in {*ours, *own}}
    parts = [f"{name}={value}" for name, value in [*own.items(), *more.items()]]
    return Selection(
        select=":".join([str(chunks), *parts]),
        scatters=chunks > 1 and not _is_free(resources),
        notes=_notes(resources, chunks),
    )


def _chunks(resources: Resources) -> tuple[int, dict[str, int]]:
    total, each = resources.gpus_total, resources.gpus_per_instance
    if resources.nodes is not None:
        if total is not None:
            return resources.nodes, {"ngpus": -(-total // resources.nodes)}
        if resources.gpus_per_node is not None:
            return resources.nodes, {"ngpus": resources.gpus_per_node}
        if resources.cores_per_node is not None:
            return resources.nodes, {"ncpus": resources.cores_per_node}
        return resources.nodes, {}
    if resources.per_node != 1 or total is None:
        raise WrongRequest(
            "resourceRequirements: needs instances.nodes, or instances.per-node: 1 with gpus.total"
        )
    if each is None:
        return total, {"ngpus": 1}
    return -(-total // each), {"ngpus": each}


def _has_gpus(resources: Resources) -> bool:
    return resources.gpus_total is not None or resources.gpus_per_node is not None


def _is_free(resources: Resources) -> bool:
    """Say whether PBS chooses the number of hosts."""
    return resources.nodes is None and resources.gpus_per_instance is None


def _notes(resources: Resources, chunks: int) -> tuple[str, ...]:
    total, each = resources.gpus_total, resources.gpus_per_instance
    if resources.nodes is None and total is not None and each is not None and total % each:
        text = (
            f"{total} GPUs cannot be shared out in parts of {each} (slots_per_node);"
            f" {chunks * each} were asked for instead"
        )
        return (text,)
    return ()
