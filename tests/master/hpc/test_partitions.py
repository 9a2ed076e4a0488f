"""Partitions as pools: defaults, slot types, limits."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shipway_master.allocations.ids import AllocationId, JobId, TaskId
from shipway_master.cluster.config import PoolConfig
from shipway_master.cluster.manager import Request, Unfulfillable
from shipway_master.hpc.config import SlurmManagerConfig
from shipway_master.hpc.partitions import (
    check_fits,
    choose_default_pools,
    choose_slot_type,
    list_pools,
)
from shipway_master.hpc.reading import Resources


def make_sample(*partitions: tuple[str, bool, int], gpus: int = 4) -> Resources:
    """Make a sample: name, is default, GPUs of each partition; two nodes of *gpus* in each."""
    return Resources.model_validate(
        {
            "partitions": [
                {
                    "partitionName": name,
                    "default": default,
                    "totalGpuSlots": slots,
                    "totalCpuSlots": 16,
                    "totalNodes": 2,
                }
                for name, default, slots in partitions
            ],
            "nodes": [
                {
                    "name": f"n{number}",
                    "partitions": [name for name, _, _ in partitions],
                    "gpuCount": gpus,
                    "cpuCount": 8,
                }
                for number in (1, 2)
            ],
        }
    )


def make_config(**changes: Any) -> SlurmManagerConfig:
    """Make settings."""
    return SlurmManagerConfig.model_validate({"type": "slurm", "host": "login", **changes})


def make_request(slots: int, *, single: bool = True, per_node: int | None = None) -> Request:
    """Make a request for the partition `gpu`."""
    now = datetime.now(UTC)
    return Request(
        allocation_id=AllocationId("t.1"),
        task_id=TaskId("t"),
        job_id=JobId("j"),
        pool="gpu",
        slots=slots,
        priority=42,
        submitted_at=now,
        requested_at=now,
        is_preemptible=False,
        is_single_agent=single,
        slots_per_node=per_node,
    )


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [
        ([], (None, None)),
        ([("a", False, 0), ("b", False, 0)], ("b", "b")),
        ([("a", True, 0), ("b", False, 8), ("c", False, 8)], ("c", "a")),
        ([("a", True, 8), ("b", False, 8)], ("a", "a")),
    ],
)
def test_default_pools(
    partitions: list[tuple[str, bool, int]], expected: tuple[str | None, str | None]
) -> None:
    assert choose_default_pools(make_config(), make_sample(*partitions)) == expected


def test_default_pools_of_the_settings_win() -> None:
    config = make_config(default_compute_resource_pool="x", default_aux_resource_pool="y")
    assert choose_default_pools(config, None) == ("x", "y")


@pytest.mark.parametrize(
    ("changes", "gpus", "slots", "slot_type"),
    [
        ({}, 8, 1, "cuda"),
        ({}, 0, 1, "cpu"),
        ({}, 8, 0, "cpu"),
        ({"slot_type": "rocm"}, 8, 1, "rocm"),
        ({"slot_type": "rocm", "partition_overrides": {"GPU": {"slot_type": "cpu"}}}, 8, 1, "cpu"),
    ],
)
def test_slot_types(changes: dict[str, Any], gpus: int, slots: int, slot_type: str) -> None:
    partition = make_sample(("gpu", True, gpus)).partitions[0]
    assert choose_slot_type(make_config(**changes), partition, slots) == slot_type


def test_a_pool_may_be_another_name_for_a_partition() -> None:
    configured = [
        PoolConfig.model_validate(
            {"pool_name": "fast", "provider": {"type": "hpc", "partition": "gpu"}}
        ),
        PoolConfig(pool_name="gpu", description="ours"),
    ]
    pools = list_pools(make_config(), configured, make_sample(("gpu", True, 8)))
    assert [(pool.name, pool.partition) for pool in pools] == [("gpu", "gpu"), ("fast", "gpu")]
    assert pools[0].description == "ours"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (make_request(9), ["asks for 9 slots", "has 8 GPUs"]),
        (make_request(5), ["5 slots on one node", "has 4 GPUs", "slots_per_node"]),
        (make_request(8, per_node=8), ["8 slots on one node"]),
    ],
)
def test_what_cannot_ever_fit_is_refused_with_the_numbers(
    request_: Request, words: list[str]
) -> None:
    sample = make_sample(("gpu", True, 8))
    (pool,) = list_pools(make_config(), [], sample)
    with pytest.raises(Unfulfillable) as raised:
        check_fits(make_config(), sample, pool, request_)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    "request_",
    [make_request(4), make_request(8, per_node=4), make_request(8, single=False), make_request(0)],
)
def test_what_fits_an_empty_partition_is_let_through(request_: Request) -> None:
    sample = make_sample(("gpu", True, 8))
    (pool,) = list_pools(make_config(), [], sample)
    check_fits(make_config(), sample, pool, request_)


def test_a_pool_without_its_partition_says_so() -> None:
    configured = [
        PoolConfig.model_validate(
            {"pool_name": "fast", "provider": {"type": "hpc", "partition": "nope"}}
        )
    ]
    sample = make_sample(("gpu", True, 8))
    pool = list_pools(make_config(), configured, sample)[-1]
    with pytest.raises(Unfulfillable, match="'nope' that does not exist"):
        check_fits(make_config(), sample, pool, make_request(1))
