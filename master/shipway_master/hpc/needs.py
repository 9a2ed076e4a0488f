"""From slots to nodes, cores and GPUs: the table of the launcher's contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SlotType = Literal["cuda", "rocm", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The `resourceRequirements` of a manifest, and the slots that each container counts."""

    instances: Mapping[str, int]
    cores: Mapping[str, int] = field(default_factory=dict[str, int])
    gpus: Mapping[str, int] = field(default_factory=dict[str, int])
    slots_per_container: int | None = None
    """None when only Slurm knows."""


def compute_needs(
    slots: int,
    slot_type: SlotType,
    *,
    slots_per_node: int | None,
    single_node: bool,
    tres: bool,
    gres: bool,
) -> Needs:
    """Say what Slurm is asked for.

    Args:
        slots_per_node: How many slots a node gives, if the user said so.
        single_node: The task is no distributed one; it still spans nodes when *slots_per_node* is
            given and less than *slots*.
        tres: Slurm can be asked for a number of GPUs without saying on how many nodes.
        gres: Slurm knows of GPUs at all.
    """
    tres = tres and gres
    if slots == 0:
        return Needs(instances={"nodes": 1}, cores={"per-node": 1})
    if slots_per_node is None or slots_per_node >= slots:
        if single_node or slots_per_node is not None:
            return _on_one_node(slots, slot_type, tres=tres, gres=gres)
        return _over_nodes_as_slurm_likes(slots, slot_type, tres=tres, gres=gres)
    nodes = -(-slots // slots_per_node)
    if slot_type == "cpu":
        return Needs(
            instances={"nodes": nodes},
            cores={"per-node": slots_per_node, "per-instance": slots_per_node},
            slots_per_container=slots_per_node,
        )
    if tres:
        return Needs(
            instances={"per-node": 1},
            gpus={"total": slots, "per-instance": slots_per_node},
            slots_per_container=slots_per_node,
        )
    return Needs(
        instances={"nodes": nodes},
        gpus={"per-node": slots_per_node} if gres else {},
        slots_per_container=slots_per_node,
    )


def _on_one_node(slots: int, slot_type: SlotType, *, tres: bool, gres: bool) -> Needs:
    if slot_type == "cpu":
        cores, gpus = {"per-node": slots}, {}
    elif tres:
        cores, gpus = {}, {"total": slots}
    else:
        cores, gpus = {}, {"per-node": slots} if gres else {}
    return Needs(instances={"nodes": 1}, cores=cores, gpus=gpus, slots_per_container=slots)


def _over_nodes_as_slurm_likes(slots: int, slot_type: SlotType, *, tres: bool, gres: bool) -> Needs:
    if slot_type == "cpu":
        return Needs(instances={"nodes": slots}, cores={"per-node": 1}, slots_per_container=1)
    if tres:
        return Needs(instances={"per-node": 1}, gpus={"total": slots})
    return Needs(
        instances={"nodes": slots}, gpus={"per-node": 1} if gres else {}, slots_per_container=1
    )
