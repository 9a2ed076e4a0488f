"""What NVML's answers say about the health of a GPU: four kinds of answers, kept apart."""

from __future__ import annotations

import pytest

from shipway_agent.slots.detect import detect_slots
from shipway_agent.slots.nvml_status import judge, read_count
from shipway_agent.slots.slot import Slot
from tests.agent.slots.fake_driver import FakeDriver

ROWS, PAGES, ECC = "row remapping", "page retirement", "uncorrectable ECC errors"


async def first(driver: FakeDriver, **says: int) -> Slot:
    driver.says(N=1, **says)
    return (await detect_slots(driver.options(slot_type="cuda"))).slots[0]


@pytest.mark.parametrize(
    ("says", "check", "answer", "problem"),
    [
        ({"ROWS0": 1}, ROWS, "pending", "wait to be remapped: the GPU must be reset"),
        ({"REMAP0": 1}, ROWS, "failed", "must be replaced"),
        ({"REMAP0": 1, "ROWS0": 1, "ECC0": 2}, ROWS, "failed", "must be replaced"),
        ({"PAGES0": 1}, PAGES, "pending", "wait to be retired"),
        ({"ECC0": 3}, ECC, "3", "3 uncorrectable memory errors"),
        ({"ECCRC": 999}, ECC, "failed: NVML error 999", f"{ECC}: failed"),
        ({"MIGRC": 999}, ROWS, "not supported", "something failed"),
        ({"ROWSRC": 15}, ROWS, "failed: NVML error 15", "the GPU is lost"),
    ],
    ids=["rows wait", "rows failed", "gravest first", "pages", "ecc", "ecc fails", "mig", "lost"],
)
async def test_what_is_wrong_is_told_in_words(
    driver: FakeDriver, says: dict[str, int], check: str, answer: str, problem: str
) -> None:
    slot = await first(driver, **says)
    assert slot.checks[check].startswith(answer)
    assert slot.problem is not None
    assert problem in slot.problem
    assert slot.uuid.startswith("GPU-")


@pytest.mark.parametrize(
    ("says", "check", "answer"),
    [
        ({"ECCRC": 0}, ECC, "0"),
        ({"ECCRC": 3}, ECC, "not supported"),
        ({"ECCRC": 13}, ECC, "not supported"),
        ({"ECCRC": 4}, ECC, "not told: no permission"),
        ({"ECC0": -1}, ECC, "not told"),
        ({"ROWSRC": 0}, ROWS, "none pending"),
        ({"PAGESRC": 0}, PAGES, "none pending"),
        ({"PAGESRC": 22}, PAGES, "not supported"),
    ],
    ids=["zero", "unsupported", "old", "hidden", "all bits", "no rows", "no pages", "vgpu"],
)
async def test_what_is_not_known_is_neither_well_nor_ill(
    driver: FakeDriver, says: dict[str, int], check: str, answer: str
) -> None:
    slot = await first(driver, **says)
    assert slot.checks[check] == answer
    assert slot.problem is None


async def test_instances_share_the_problem_of_their_gpu(driver: FakeDriver) -> None:
    driver.says(N=2, MIG0=2, ECC0=1)
    slots = (await detect_slots(driver.options(slot_type="cuda"))).slots
    assert [(slot.id, bool(slot.problem)) for slot in slots] == [(0, True), (1, True), (2, False)]


async def test_the_versions_are_told(driver: FakeDriver) -> None:
    detection = await detect_slots(driver.options(slot_type="cuda"))
    assert detection.versions == {"NVIDIA driver": "550.54.15", "CUDA": "12.4"}
    driver.says(DRIVERRC=999)
    detection = await detect_slots(driver.options(slot_type="cuda"))
    assert detection.versions == {}
    assert len(detection.usable) == 2


async def test_two_gpus_that_tell_one_uuid_are_not_both_offered(driver: FakeDriver) -> None:
    driver.says(N=2, SAME=1)
    slots = (await detect_slots(driver.options(slot_type="cuda"))).slots
    assert slots[0].problem is None
    assert slots[1].problem == "it tells the same UUID as slot 0"


@pytest.mark.parametrize("value", [-1, 2**64 - 1, "7", None, True])
def test_impossible_numbers_are_no_numbers(value: object) -> None:
    assert read_count({"value": value}) is None


def test_a_probe_of_another_release_is_read() -> None:
    assert judge({"remapped_rows": {"value": [1, 2]}, "uncorrected_ecc": "?"}) == (
        None,
        {ROWS: "not told", PAGES: "not told", ECC: "not told"},
    )
