"""From two snapshots to what the master is told of one task."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from shipway_agent.profiler.quantities import (
    ContainerUsage,
    GpuUsage,
    NodeUsage,
    Quantity,
    Snapshot,
)
from shipway_agent.profiler.readings import Series, task_readings
from shipway_agent.runtimes.spec import ContainerId

TASK = ContainerId("c-1")


def make_gpu(index: int, uuid: str, parent: str | None = None, **numbers: float) -> GpuUsage:
    return GpuUsage(
        index=index,
        uuid=uuid,
        name="",
        parent_uuid=parent,
        numbers={Quantity[name]: number for name, number in numbers.items()},
    )


def make_snapshot(clock_s: float, *gpus: GpuUsage, **numbers: float) -> Snapshot:
    usage = ContainerUsage(
        source="cgroup",
        started_at=0.0,
        numbers={Quantity[name]: number for name, number in numbers.items()},
    )
    return Snapshot(
        time=datetime.now(UTC),
        clock_s=clock_s,
        took_s=0.0,
        node=NodeUsage(cpus=8),
        containers={TASK: usage},
        gpus=gpus,
    )


def told(before: Snapshot | None, now: Snapshot, *gpus: str) -> dict[str, float]:
    found = task_readings(before, now, TASK, gpus)
    return {f"{one.name} {one.gpu_uuid}".strip(): value for one, value in found.items()}


@pytest.mark.parametrize(
    ("limit", "percent"), [({"CPU_LIMIT": 2.0}, 75.0), ({"CPU_LIMIT": 0.5}, 100.0), ({}, 18.75)]
)
def test_a_task_is_as_busy_as_its_own_processors(limit: dict[str, float], percent: float) -> None:
    before = make_snapshot(10, CPU_SECONDS=100, **limit)
    now = make_snapshot(12, CPU_SECONDS=103, **limit)
    assert told(before, now) == {"cpu_util_simple": percent}


def test_counters_become_rates() -> None:
    before = make_snapshot(10, DISK_READ_BYTES=0, DISK_READS=5, DISK_WRITES=5, NETWORK_SENT=7)
    now = make_snapshot(12, DISK_READ_BYTES=100, DISK_READS=7, DISK_WRITES=11, NETWORK_SENT=7)
    assert told(before, now) == {
        "disk_throughput_read": 50,
        "disk_iops": 4,
        "net_throughput_sent": 0,
    }


def test_there_is_no_rate_without_a_former_number_or_after_a_step_back() -> None:
    now = make_snapshot(12, CPU_SECONDS=1, DISK_READ_BYTES=1, NETWORK_SENT=1, MEMORY_FREE=5)
    assert told(None, now) == {"memory_free": 5}
    before = make_snapshot(11, CPU_SECONDS=2, NETWORK_RECEIVED=3)
    assert told(before, now) == {"memory_free": 5}
    assert told(now, now) == {"memory_free": 5}


def test_the_fullness_of_the_tasks_own_files_is_told() -> None:
    now = make_snapshot(12, FILESYSTEM_SIZE=200, FILESYSTEM_FREE=50)
    assert told(None, now) == {"disk_util": 75}


GPUS = (
    make_gpu(0, "GPU-aa-1", UTILIZATION=0.5),
    make_gpu(0, "MIG-bb-2", "GPU-aa-1", MEMORY_FREE=7),
    make_gpu(1, "GPU-cc-3", TEMPERATURE=60, POWER=99.5),
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), {}),
        (("GPU-aa-1",), {"gpu_util GPU-aa-1": 50}),
        (("0",), {"gpu_util GPU-aa-1": 50}),
        (("mig-bb-2",), {"gpu_free_memory MIG-bb-2": 7}),
        (("GPU-c",), {"gpu_temperature GPU-cc-3": 60, "gpu_power GPU-cc-3": 99.5}),
        (("2", "", "GPU-zz"), {}),
    ],
    ids=str,
)
def test_only_the_tasks_own_gpus_are_told(
    names: tuple[str, ...], expected: dict[str, float]
) -> None:
    assert told(None, make_snapshot(1, *GPUS), *names) == expected


def test_a_task_that_is_not_measured_still_has_its_gpus() -> None:
    now = make_snapshot(1, *GPUS)
    found = task_readings(now, now, ContainerId("another"), ["GPU-aa-1"])
    assert found == {Series(name="gpu_util", gpu_uuid="GPU-aa-1"): 50}
