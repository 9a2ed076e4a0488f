"""From slots to nodes, cores and GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from shipway_master.hpc.needs import SlotType, compute_needs


@pytest.mark.parametrize(
    ("slot_type", "slots", "per_node", "tres", "gres", "expected"),
    [
        ("cpu", 0, None, True, True, ({"nodes": 1}, {"per-node": 1}, {})),
        ("cpu", 0, 4, True, True, ({"nodes": 1}, {"per-node": 1}, {})),
        ("cpu", 3, None, True, True, ({"nodes": 3}, {"per-node": 1}, {})),
        (("cpu", 5, 2, True, True, ({"nodes": 3}, {"per-node": 2, "per-instance": 2}, {}))),
        ("cuda", 4, None, True, True, ({"per-node": 1}, {}, {"total": 4})),
        (("cuda", 4, 2, True, True, ({"per-node": 1}, {}, {"total": 4, "per-instance": 2}))),
        ("rocm", 4, 2, False, True, ({"nodes": 2}, {}, {"per-node": 2})),
        ("cuda", 4, None, False, True, ({"nodes": 4}, {}, {"per-node": 1})),
        ("cuda", 4, None, True, False, ({"nodes": 4}, {}, {})),
        ("cuda", 4, 2, True, False, ({"nodes": 2}, {}, {})),
    ],
)
def test_distributed_tasks(
    slot_type: SlotType,
    slots: int,
    per_node: int | None,
    tres: bool,
    gres: bool,
    expected: tuple[Any, ...],
) -> None:
    needs = compute_needs(
        slots, slot_type, slots_per_node=per_node, single_node=False, tres=tres, gres=gres
    )
    assert (needs.instances, needs.cores, needs.gpus) == expected


@pytest.mark.parametrize(
    ("slot_type", "slots", "per_node", "gres", "expected"),
    [
        ("cuda", 4, None, True, ({"nodes": 1}, {}, {"total": 4})),
        ("cuda", 4, 8, True, ({"nodes": 1}, {}, {"total": 4})),
        ("cuda", 4, None, False, ({"nodes": 1}, {}, {})),
        ("cpu", 3, None, True, ({"nodes": 1}, {"per-node": 3}, {})),
        ("cuda", 4, 2, True, ({"per-node": 1}, {}, {"total": 4, "per-instance": 2})),
        ("cpu", 4, 2, True, ({"nodes": 2}, {"per-node": 2, "per-instance": 2}, {})),
    ],
)
def test_commands_are_on_one_node_unless_slots_per_node_says_otherwise(
    slot_type: SlotType, slots: int, per_node: int | None, gres: bool, expected: tuple[Any, ...]
) -> None:
    needs = compute_needs(
        slots, slot_type, slots_per_node=per_node, single_node=True, tres=True, gres=gres
    )
    assert (needs.instances, needs.cores, needs.gpus) == expected


@pytest.mark.parametrize(
    ("slots", "per_node", "single", "ids"),
    [(0, None, True, None), (4, None, True, 4), (4, 2, False, 2), (4, None, False, None)],
)
def test_slots_of_a_container_where_they_are_known(
    slots: int, per_node: int | None, single: bool, ids: int | None
) -> None:
    needs = compute_needs(
        slots, "cuda", slots_per_node=per_node, single_node=single, tres=True, gres=True
    )
    assert needs.slots_per_container == ids
