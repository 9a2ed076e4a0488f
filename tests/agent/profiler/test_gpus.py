"""GPUs are read from a stand-in driver; what one does not tell is missing, and none hides another."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shipway_agent.profiler.gpus import GpuReader, GpuTiming
from shipway_agent.profiler.quantities import GpuUsage, Quantity
from tests.agent.profiler.driver import Driver

ALL = {
    Quantity.UTILIZATION,
    Quantity.MEMORY_TOTAL,
    Quantity.MEMORY_USED,
    Quantity.MEMORY_FREE,
    Quantity.TEMPERATURE,
    Quantity.POWER,
}
MEMORY = {Quantity.MEMORY_TOTAL, Quantity.MEMORY_USED, Quantity.MEMORY_FREE}
FAST = GpuTiming(patience_s=60, start_s=60, silence_s=30, rest_s=0.05)


@contextlib.asynccontextmanager
async def reading(driver: Driver, timing: GpuTiming = FAST) -> AsyncIterator[GpuReader]:
    async with GpuReader(driver.environ, timing) as reader:
        yield reader


async def read(reader: GpuReader) -> dict[str, GpuUsage]:
    return {gpu.uuid: gpu for gpu in await reader.read()}


async def read_until(reader: GpuReader, *uuids: str) -> dict[str, GpuUsage]:
    async with asyncio.timeout(60):
        while True:
            found = await read(reader)
            if set(uuids) <= found.keys():
                return found
            await asyncio.sleep(0.02)


def helpers() -> Iterator[int]:
    """Find the helpers that we started."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"nvml_readings.py" in path.read_bytes():
                status = (path.parent / "stat").read_text().rpartition(")")[2].split()
                if int(status[1]) == os.getpid() and status[0] != "Z":
                    yield int(path.parent.name)


async def test_all_numbers_of_all_gpus_are_read(driver: Driver) -> None:
    driver.says(N=8, BUSY0=7, BUSY7=93, USED7=6, CELSIUS7=81, MILLIWATTS7=350250)
    async with reading(driver) as reader:
        found = await read(reader)
    assert list(found) == [f"GPU-{number}" for number in range(8)]
    assert found["GPU-0"].numbers[Quantity.UTILIZATION] == pytest.approx(0.07)
    last = found["GPU-7"]
    assert (last.index, last.name, last.parent_uuid) == (7, "Fake GPU", None)
    assert last.numbers == {
        Quantity.UTILIZATION: pytest.approx(0.93),
        Quantity.MEMORY_TOTAL: 8 << 30,
        Quantity.MEMORY_USED: 6 << 30,
        Quantity.MEMORY_FREE: 2 << 30,
        Quantity.TEMPERATURE: 81,
        Quantity.POWER: 350.25,
    }


async def test_readings_are_new_each_time(driver: Driver) -> None:
    async with reading(driver) as reader:
        assert (await read(reader))["GPU-0"].numbers[Quantity.UTILIZATION] == 0
        driver.says(BUSY0=50)
        assert (await read(reader))["GPU-0"].numbers[Quantity.UTILIZATION] == 0.5


@pytest.mark.parametrize(
    ("says", "missing"),
    [
        ({"UTIL0": 3}, {Quantity.UTILIZATION}),
        ({"MEMORY0": 3}, MEMORY),
        ({"TEMP0": 3}, {Quantity.TEMPERATURE}),
        ({"POWER0": 3}, {Quantity.POWER}),
        ({"UTIL0": 3, "MEMORY0": 3, "TEMP0": 13, "POWER0": 999}, ALL),
        ({"BUSY0": 200}, {Quantity.UTILIZATION}),
        ({"USED0": 9}, MEMORY),
        ({"CELSIUS0": -1}, {Quantity.TEMPERATURE}),
        ({"MILLIWATTS0": -1}, {Quantity.POWER}),
    ],
    ids=lambda names: "+".join(sorted(names)),
)
async def test_what_a_gpu_does_not_tell_is_missing_not_zero(
    driver: Driver, says: dict[str, int], missing: set[Quantity]
) -> None:
    driver.says(**says)
    async with reading(driver) as reader:
        found = await read(reader)
    assert set(found["GPU-0"].numbers) == ALL - missing
    assert set(found["GPU-1"].numbers) == ALL


async def test_a_mig_instance_has_its_own_memory_and_nothing_of_its_gpu(driver: Driver) -> None:
    driver.says(MIG0=2, UTIL0=3)
    async with reading(driver) as reader:
        found = await read(reader)
    assert list(found) == ["GPU-0", "MIG-0-0", "MIG-0-1", "GPU-1"]
    assert set(found["GPU-0"].numbers) == ALL - {Quantity.UTILIZATION}
    assert found["MIG-0-1"].parent_uuid == "GPU-0"
    assert found["MIG-0-1"].numbers == {
        Quantity.MEMORY_TOTAL: 4 << 30,
        Quantity.MEMORY_USED: 3 << 30,
        Quantity.MEMORY_FREE: 1 << 30,
    }


async def test_a_lost_gpu_is_missing_and_comes_back(driver: Driver) -> None:
    driver.says(LOST0=15)
    async with reading(driver) as reader:
        assert set(await read(reader)) == {"GPU-1"}
        driver.says()
        assert set(await read(reader)) == {"GPU-0", "GPU-1"}


@pytest.mark.parametrize("fault", [{"HANG0": 30}, {"CRASH0": 1}], ids=["hangs", "crashes"])
async def test_one_bad_gpu_does_not_hide_the_other_and_comes_back(
    driver: Driver, fault: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    driver.says(**fault)
    timing = GpuTiming(patience_s=5, silence_s=0.5, rest_s=1)
    async with reading(driver, timing) as reader:
        assert "GPU-0" not in await read_until(reader, "GPU-1")
        assert caplog.text.count("no metrics of GPU 0") == 1
        driver.says()
        await read_until(reader, "GPU-0", "GPU-1")
    assert "GPU metrics are back" in caplog.text


async def test_a_driver_that_hangs_holds_up_nobody_for_longer_than_said(driver: Driver) -> None:
    driver.says(HANGINIT=30)
    timing = GpuTiming(start_s=0.05, silence_s=0.3, rest_s=60)
    loop = asyncio.get_running_loop()
    async with reading(driver, timing) as reader:
        begun = loop.time()
        assert await read(reader) == {}
        assert loop.time() - begun < 20  # much less than the driver takes
    assert list(helpers()) == []


async def test_without_nvml_there_is_one_warning(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.says(INIT=9)
    async with reading(driver) as reader:
        for _ in range(3):
            assert await read(reader) == {}
            await asyncio.sleep(0.05)
        assert caplog.text.count("no GPU metrics: NVML says error 9") == 1
        driver.says()  # the module was loaded
        await read_until(reader, "GPU-0", "GPU-1")


async def test_a_library_that_prints_does_no_harm(driver: Driver) -> None:
    driver.says(NOISE=1)
    async with reading(driver) as reader:
        assert set(await read(reader)) == {"GPU-0", "GPU-1"}


async def test_the_helper_ends_when_nobody_asks_and_starts_when_somebody_does(
    driver: Driver,
) -> None:
    async with reading(driver, GpuTiming(idle_s=0.1)) as reader:
        assert list(helpers()) == []
        await read_until(reader, "GPU-0")
        async with asyncio.timeout(60):
            while list(helpers()):  # noqa: ASYNC110 (another process)
                await asyncio.sleep(0.02)
        await read_until(reader, "GPU-0")
