from __future__ import annotations

import pytest

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import describe_problems, detect_slots, require_usable
from shipway_agent.slots.slot import Slot
from tests.agent.slots.fake_driver import FakeDriver


async def offered(driver: FakeDriver, **changes: object) -> list[tuple[int, str]]:
    detection = await detect_slots(driver.options(slot_type="cuda", **changes))
    return [(slot.id, slot.uuid[:12]) for slot in detection.usable]


async def problems(driver: FakeDriver) -> dict[int, str]:
    detection = await detect_slots(driver.options(slot_type="cuda"))
    return {slot.id: slot.problem for slot in detection.slots if slot.problem}


async def test_whole_gpus_keep_the_drivers_index(driver: FakeDriver) -> None:
    detection = await detect_slots(driver.options(slot_type="cuda"))
    assert detection.slots == tuple(
        Slot(
            id=index,
            gpu_index=index,
            type="cuda",
            brand="Fake GPU",
            uuid=f"GPU-0000000{index}-aaaa-bbbb-cccc-dddddddddddd",
            memory_bytes=8 << 30,
            pci_bus=f"00000000:C{index}:00.0",
            checks=dict.fromkeys(
                ("row remapping", "page retirement", "uncorrectable ECC errors"), "not supported"
            ),
        )
        for index in range(2)
    )
    assert detection.notes == ()


@pytest.mark.parametrize(
    ("says", "word"),
    [
        ({"HANDLE1": 15}, "lost"),
        ({"MEMORY1": 999}, "dmesg"),
        ({"REMAP1": 1}, "remapped"),
        ({"CRASH1": 1}, "SIGSEGV"),
    ],
    ids=["lost", "unknown", "remapping", "crash"],
)
async def test_a_bad_gpu_does_not_hide_the_good_ones(
    driver: FakeDriver, says: dict[str, int], word: str
) -> None:
    driver.says(N=3, **says)
    assert await offered(driver) == [(0, "GPU-00000000"), (2, "GPU-00000002")]
    found = await problems(driver)
    assert list(found) == [1]
    assert word in found[1]


async def test_a_gpu_that_hangs_does_not_hide_the_good_ones(driver: FakeDriver) -> None:
    driver.says(N=3, HANG1=60)
    assert await offered(driver, timeout_s=1.0) == [(0, "GPU-00000000"), (2, "GPU-00000002")]


async def test_a_driver_that_hangs_is_left_after_its_time(driver: FakeDriver) -> None:
    driver.says(HANGINIT=60)
    with pytest.raises(SlotsUnknown, match=r"did not answer within 0\.6 s"):
        await offered(driver, timeout_s=0.2)


@pytest.mark.parametrize("unsupported", [3, 13, 4], ids=["unsupported", "old driver", "hidden"])
async def test_memory_that_is_not_told_is_no_fault(driver: FakeDriver, unsupported: int) -> None:
    driver.says(N=1, MEMORY0=unsupported)
    detection = await detect_slots(driver.options(slot_type="cuda"))
    assert [(slot.memory_bytes, slot.problem) for slot in detection.slots] == [(None, None)]


async def test_a_name_of_any_bytes_is_shown(driver: FakeDriver) -> None:
    driver.says(N=1, BADNAME=1)
    detection = await detect_slots(driver.options(slot_type="cuda"))
    assert [slot.brand for slot in detection.usable] == ["Fake \ufffd\ufffd GPU"]


async def test_what_the_library_prints_itself_is_ignored(driver: FakeDriver) -> None:
    driver.says(N=1, NOISE=1)
    assert await offered(driver) == [(0, "GPU-00000000")]


async def test_instances_take_the_place_of_their_gpu(driver: FakeDriver) -> None:
    driver.says(N=3, MIG0=2, MIG2=0)
    detection = await detect_slots(driver.options(slot_type="cuda"))
    assert [(slot.id, slot.brand, slot.uuid) for slot in detection.usable] == [
        (0, "MIG 1g.5gb", "MIG-00000000-0000-5000-8000-000000000000"),
        (1, "MIG 1g.5gb", "MIG-00000000-0000-5000-8000-000000000001"),
        (2, "Fake GPU", "GPU-00000001-aaaa-bbbb-cccc-dddddddddddd"),
    ]
    assert detection.usable[0].memory_bytes == 1 << 30
    assert detection.usable[0].parent_uuid == "GPU-00000000-aaaa-bbbb-cccc-dddddddddddd"
    (told,) = describe_problems(detection)
    assert "no instance" in told


@pytest.mark.parametrize(
    ("visible", "ids"),
    [
        ("", [0, 1, 2]),
        ("2,0", [0, 2]),
        (" 1 ,", [1]),
        ("GPU-00000001-aaaa-bbbb-cccc-dddddddddddd", [1]),
        ("gpu-00000002", [2]),
        ("0000:c1:00.0", [1]),
        ("C2:00.0,00000000:C0:00.0", [0, 2]),
    ],
)
async def test_visible_gpus_has_several_spellings(
    driver: FakeDriver, visible: str, ids: list[int]
) -> None:
    driver.says(N=3)
    assert [slot for slot, _ in await offered(driver, visible_gpus=visible)] == ids


@pytest.mark.parametrize("visible", ["7", "0,GPU-dead", "-1", "GPU-0000000", "NoDevFiles"])
async def test_a_visible_gpu_that_is_not_here_is_an_error(driver: FakeDriver, visible: str) -> None:
    driver.says(N=3)
    with pytest.raises(SlotsUnknown, match="names no GPU of this machine"):
        await offered(driver, visible_gpus=visible)


async def test_no_gpu_left_is_an_error_that_says_why(driver: FakeDriver) -> None:
    driver.says(N=1, HANDLE0=15)
    detection = await detect_slots(driver.options(slot_type="cuda"))
    with pytest.raises(SlotsUnknown, match="lost"):
        require_usable(detection)
