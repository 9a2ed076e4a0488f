"""AMD's cards are read from files like their driver's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shipway_agent.profiler.gpus import GpuReader, GpuTiming, amd_driver
from shipway_agent.profiler.quantities import Numbers, Quantity
from shipway_agent.slots.slot import Slot

BUS = "0000:C1:00.{}"
FILES = {
    "gpu_busy_percent": "42",
    "mem_info_vram_total": "68702699520",
    "mem_info_vram_used": "702699520",
    "hwmon/hwmon3/temp1_input": "51000",
    "hwmon/hwmon3/power1_average": "250500000",
}


class Cards:
    """A folder in the place of /sys with two cards in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.slots = [
            Slot(
                id=number,
                gpu_index=number,
                type="rocm",
                brand="Instinct",
                uuid=f"0x{number}",
                pci_bus=BUS.format(number),
            )
            for number in range(2)
        ]
        for number in range(2):
            for name, text in FILES.items():
                self.write(number, name, text)

    def path(self, number: int, name: str) -> Path:
        return self.root / "sys/bus/pci/devices" / BUS.format(number).lower() / name

    def write(self, number: int, name: str, text: str | None) -> None:
        path = self.path(number, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(f"{text}\n")

    def reader(self, timing: GpuTiming | None = None) -> GpuReader:
        driver = amd_driver(self.slots, self.root)
        return GpuReader(os.environ, timing or GpuTiming(start_s=20), driver=driver)


async def read(reader: GpuReader) -> dict[str, Numbers]:
    return {gpu.uuid: gpu.numbers for gpu in await reader.read()}


async def test_all_numbers_are_read(tmp_path: Path) -> None:
    cards = Cards(tmp_path)
    async with cards.reader() as reader:
        found = await read(reader)
    assert list(found) == ["0x0", "0x1"]
    assert found["0x0"] == {
        Quantity.UTILIZATION: pytest.approx(0.42),
        Quantity.MEMORY_TOTAL: 68702699520,
        Quantity.MEMORY_USED: 702699520,
        Quantity.MEMORY_FREE: 68000000000,
        Quantity.TEMPERATURE: 51,
        Quantity.POWER: 250.5,
    }


@pytest.mark.parametrize(
    ("name", "text", "missing"),
    [
        ("gpu_busy_percent", None, Quantity.UTILIZATION),
        ("gpu_busy_percent", "N/A", Quantity.UTILIZATION),
        ("gpu_busy_percent", "101", Quantity.UTILIZATION),
        ("mem_info_vram_used", None, Quantity.MEMORY_FREE),
        ("mem_info_vram_used", "99999999999999", Quantity.MEMORY_USED),
        ("mem_info_vram_total", "0", Quantity.MEMORY_TOTAL),
        ("hwmon/hwmon3/temp1_input", None, Quantity.TEMPERATURE),
        ("hwmon/hwmon3/temp1_input", "4294967295", Quantity.TEMPERATURE),
        ("hwmon/hwmon3/power1_average", "", Quantity.POWER),
    ],
)
async def test_what_a_card_does_not_tell_is_missing_not_zero(
    tmp_path: Path, name: str, text: str | None, missing: Quantity
) -> None:
    cards = Cards(tmp_path)
    cards.write(0, name, text)
    async with cards.reader() as reader:
        found = await read(reader)
    assert missing not in found["0x0"]
    assert missing in found["0x1"]


async def test_a_card_may_have_other_sensors(tmp_path: Path) -> None:
    cards = Cards(tmp_path)
    cards.write(0, "hwmon/hwmon3/temp1_input", None)
    cards.write(0, "hwmon/hwmon3/temp2_input", "61000")
    cards.write(0, "hwmon/hwmon3/power1_average", None)
    cards.write(0, "hwmon/hwmon3/power1_input", "90000000")
    async with cards.reader() as reader:
        found = await read(reader)
    assert (found["0x0"][Quantity.TEMPERATURE], found["0x0"][Quantity.POWER]) == (61, 90)


async def test_a_card_that_does_not_answer_hides_no_other(tmp_path: Path) -> None:
    cards = Cards(tmp_path)
    cards.write(0, "gpu_busy_percent", None)
    os.mkfifo(cards.path(0, "gpu_busy_percent"))  # whoever opens it waits for ever
    async with cards.reader(GpuTiming(start_s=20, silence_s=0.3, rest_s=60)) as reader:
        assert await read(reader) == {}
        assert set(await read(reader)) == {"0x1"}


async def test_a_card_that_is_gone_is_missing(tmp_path: Path) -> None:
    cards = Cards(tmp_path)
    cards.slots.append(Slot(id=2, gpu_index=2, type="rocm", brand="x", uuid="0x2"))
    cards.path(0, "").rename(tmp_path / "gone")
    async with cards.reader() as reader:
        assert set(await read(reader)) == {"0x1"}
