"""Which devices may be offered, by the rules of each vendor's variable."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import detect_slots
from shipway_agent.slots.slot import Slot
from shipway_agent.slots.visible import (
    choose_by_cuda,
    choose_by_nvidia,
    choose_by_rocr,
    choose_by_setting,
)
from tests.agent.slots.fake_driver import FakeDriver


def gpu(index: int, uuid: str, **changes: object) -> Slot:
    values = {
        "id": index,
        "gpu_index": index,
        "type": "cuda",
        "brand": "GPU",
        "uuid": uuid,
        "pci_bus": f"00000000:C{index}:00.0",
        **changes,
    }
    return Slot(**values)  # type: ignore[arg-type]


WHOLE = [gpu(0, "GPU-aa11"), gpu(1, "GPU-aa22"), gpu(2, "GPU-bb33"), gpu(3, "GPU-cc44")]

OLD = "MIG-GPU-aa11"
PARTS = [
    gpu(0, "MIG-1111", parent_uuid="GPU-aa11", aliases=("0:0", f"{OLD}/1/0")),
    gpu(0, "MIG-1122", parent_uuid="GPU-aa11", aliases=("0:1", f"{OLD}/1/10")),
    gpu(1, "GPU-aa22"),
    gpu(2, f"{OLD.replace('aa11', 'dd55')}/7/0", parent_uuid="GPU-dd55", aliases=("2:0",)),
]

AMD = [
    gpu(0, "0xaa11", type="rocm", aliases=("GPU-000000000000aa11",)),
    gpu(1, "0x7b03aa22aa22aa22", type="rocm", aliases=("GPU-7b03aa22aa22aa22",)),
    gpu(2, "0x7b03bb33bb33bb33", type="rocm", aliases=("GPU-7b03bb33bb33bb33",)),
    gpu(3, "pci@0000:c3:00.0", type="rocm"),
]


@pytest.mark.parametrize(
    ("value", "positions"),
    [
        ("2,1", [1, 2]),
        ("0,2,-1,1", [0, 2]),
        ("-1", []),
        ("", []),
        (",0", []),
        ("0,,1", [0]),
        ("0,7,1", [0]),
        ("0,0", []),
        ("1,2,1", []),
        (" 3 , 0", [0, 3]),
        ("1gpu2,2ampere", [1, 2]),
        ("+1", [1]),
        ("0-2", [0]),
        ("NoDevFiles", []),
        ("all", []),
        ("0,GPU-aa22", [0]),
        ("GPU-aa22,GPU-bb33", [1, 2]),
        ("GPU-aa22,0,GPU-bb33", [1]),
        ("gpu-aa22", []),
        ("GPU-aa", []),
        ("GPU-aa2,GPU-b", [1, 2]),
        ("GPU-cc44,GPU-zz,GPU-aa11", [3]),
        ("GPU-aa22,GPU-aa2", []),
        ("GPU-", []),
        ("99999999999999999999", []),
    ],
)
def test_cuda(value: str, positions: list[int]) -> None:
    assert sorted(choose_by_cuda(WHOLE, value, "V").positions) == positions


@pytest.mark.parametrize(
    ("value", "positions"),
    [
        ("MIG-1122", [1]),
        ("MIG-1122,MIG-1111", [0, 1]),
        (f"{OLD}/1/0", [0]),
        (f"{OLD}/1/10,{OLD}/1/0", [0, 1]),
        (f"{OLD}/1", []),
        ("MIG-GPU-dd55/7/0", [3]),
        ("MIG-11", []),
        ("MIG-1111,GPU-aa22", [0]),
        ("MIG-1111,MIG-1111", []),
        ("GPU-aa11", [0, 1]),
        ("0", [0, 1]),
        ("2,1", [2, 3]),
    ],
)
def test_cuda_with_instances(value: str, positions: list[int]) -> None:
    assert sorted(choose_by_cuda(PARTS, value, "V").positions) == positions


def test_a_gpu_that_tells_no_uuid_does_not_end_the_list_for_the_others() -> None:
    slots = [*WHOLE[:1], gpu(1, "", problem="lost"), *WHOLE[2:]]
    choice = choose_by_cuda(slots, "GPU-aa11,GPU-aa22,GPU-cc44", "V")
    assert sorted(choice.positions) == [0, 3]
    assert choice.notes == ["V: GPU-aa22 is not found; a GPU tells no UUID"]


@pytest.mark.parametrize(
    ("value", "note"),
    [
        ("", []),
        ("-1", []),
        ("0,7", ["V: the list ends at '7', which names no device here"]),
        ("0,-1", ["V: the list ends at '-1', which names no device here"]),
        ("0,0", ["V: 0 is named twice, so that CUDA would see none"]),
    ],
)
def test_what_a_list_lost_is_told(value: str, note: list[str]) -> None:
    assert choose_by_cuda(WHOLE, value, "V").notes == note


@pytest.mark.parametrize(
    ("value", "positions"),
    [
        ("1,0", [0, 1]),
        ("0x2", [2]),
        ("01,010", [1]),
        ("0,GPU-7B03AA22AA22AA22", [0, 1]),
        ("gpu-7b03bb", [2]),
        ("GPU-7b03", []),
        ("GPU-000000000000AA11,3", [0, 3]),
        ("1,1,0", [1]),
        ("1 ,x,0", [1]),
        ("0-2", []),
        ("-1", []),
        ("", []),
        ("1,", [1]),
        ("4", []),
        ("GPU-7b03aa22aa22aa2200", []),
        ("1_0", []),
    ],
)
def test_rocr(value: str, positions: list[int]) -> None:
    assert sorted(choose_by_rocr(AMD, value, "V").positions) == positions


@pytest.mark.parametrize(
    ("value", "slots", "positions"),
    [
        ("all", WHOLE, [0, 1, 2, 3]),
        ("none", WHOLE, []),
        ("void", WHOLE, []),
        ("", WHOLE, []),
        ("1", WHOLE, [1]),
        ("GPU-bb33,0", WHOLE, [0, 2]),
        ("0,1,7", WHOLE, [0, 1]),
        # In a container: what is here is what was named, counted from 0.
        ("3", WHOLE[:1], [0]),
        ("2,3", WHOLE[:2], [0, 1]),
        ("0:1", PARTS, [1]),
        ("MIG-1111", PARTS, [0]),
        ("MIG-1111", PARTS[:1], [0]),
        ("7:1", PARTS[:1], [0]),
    ],
)
def test_nvidia(value: str, slots: Sequence[Slot], positions: list[int]) -> None:
    assert sorted(choose_by_nvidia(slots, value, "V").positions) == positions


@pytest.mark.parametrize(
    ("names", "slots", "positions"),
    [
        ("all", WHOLE, [0, 1, 2, 3]),
        ("", WHOLE, [0, 1, 2, 3]),
        ("MIG-1122", PARTS, [1]),
        (f"{OLD}/1/0", PARTS, [0]),
        ("0:1, 1", PARTS, [1, 2]),
        ("GPU-dd55", PARTS, [3]),
        ("mig-gpu-DD55/7/0", PARTS, [3]),
        ("0x7b03aa22aa22aa22,gpu-7b03bb", AMD, [1, 2]),
        ("pci@0000:c3:00.0", AMD, [3]),
        ("c0:00.0", AMD, [0]),
    ],
)
def test_the_setting(names: str, slots: Sequence[Slot], positions: list[int]) -> None:
    choice = choose_by_setting(slots, names)
    assert (sorted(choice.positions), choice.unknown) == (positions, [])


def test_the_setting_names_what_it_does_not_find() -> None:
    choice = choose_by_setting(WHOLE, "0,GPU-a,7,GPU-zz")
    assert (sorted(choice.positions), choice.unknown) == ([0], ["GPU-a", "7", "GPU-zz"])


async def offered(driver: FakeDriver, environ: dict[str, str], **changes: object) -> list[int]:
    environ = {**driver.environ, **environ}
    detection = await detect_slots(driver.options(environ=environ, **changes))
    return [slot.id for slot in detection.slots if slot.type == "cuda"]


async def test_the_variables_count_only_where_nothing_is_set(driver: FakeDriver) -> None:
    driver.says(N=4)
    one = {"CUDA_VISIBLE_DEVICES": "1"}
    assert await offered(driver, one) == [1]
    assert await offered(driver, one, visible_gpus="2,3") == [2, 3]
    assert await offered(driver, one, visible_gpus="all") == [0, 1, 2, 3]
    assert await offered(driver, {"ROCR_VISIBLE_DEVICES": "1"}) == [0, 1, 2, 3]
    both = {"CUDA_VISIBLE_DEVICES": "0,1", "NVIDIA_VISIBLE_DEVICES": "1,2"}
    assert await offered(driver, both) == [1]
    assert await offered(driver, {**one, "NVIDIA_VISIBLE_DEVICES": "all"}) == [1]


async def test_gpus_that_are_all_hidden_never_become_a_cpu_silently(driver: FakeDriver) -> None:
    environ = {**driver.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    detection = await detect_slots(driver.options(environ=environ))
    assert [slot.type for slot in detection.slots] == ["cpu"]
    hidden = "all 2 GPUs are hidden by CUDA_VISIBLE_DEVICES='-1'"
    assert detection.notes == (f"{hidden}; the CPU is offered instead",)
    with pytest.raises(SlotsUnknown, match=hidden):
        await detect_slots(driver.options(environ=environ, slot_type="cuda"))


async def test_a_lost_gpu_that_the_setting_names_does_not_keep_the_others(
    driver: FakeDriver,
) -> None:
    driver.says(N=2, HANDLE1=15)
    names = "GPU-00000000-aaaa-bbbb-cccc-dddddddddddd,GPU-00000001-aaaa-bbbb-cccc-dddddddddddd"
    detection = await detect_slots(driver.options(slot_type="cuda", visible_gpus=names))
    assert [slot.id for slot in detection.usable] == [0]
    assert "'GPU-00000001-aaaa-bbbb-cccc-dddddddddddd' names no GPU" in detection.notes[0]


async def test_instances_keep_the_names_that_old_drivers_give_them(driver: FakeDriver) -> None:
    driver.says(N=2, MIG0=2, OLDMIG=1)
    name = "MIG-GPU-00000000-aaaa-bbbb-cccc-dddddddddddd/8/0"
    options = driver.options(slot_type="cuda", visible_gpus=name)
    detection = await detect_slots(options)
    assert [(slot.id, slot.uuid) for slot in detection.usable] == [(1, name)]
