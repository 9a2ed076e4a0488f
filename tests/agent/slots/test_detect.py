from __future__ import annotations

import uuid

import pytest

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.artificial import make_artificial
from shipway_agent.slots.cpu import parse_brand, read_cpu
from shipway_agent.slots.detect import detect_slots
from shipway_agent.slots.watch import SlotWatch
from tests.agent.slots.fake_driver import FakeDriver


def with_device_node(driver: FakeDriver) -> None:
    (driver.root / "dev/nvidia0").touch()


def with_kernel_entry(driver: FakeDriver) -> None:
    (driver.root / "proc/driver/nvidia").mkdir(parents=True)


def with_pci_device(driver: FakeDriver) -> None:
    device = driver.root / "sys/bus/pci/devices/0000:c1:00.0"
    device.mkdir()
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")


async def types(driver: FakeDriver, **changes: object) -> list[str]:
    return [slot.type for slot in (await detect_slots(driver.options(**changes))).usable]


async def test_a_machine_without_any_trace_of_gpus_offers_its_cpu(driver: FakeDriver) -> None:
    driver.without_library()
    assert await types(driver) == ["cpu"]


async def test_a_library_that_fails_without_any_trace_of_gpus_is_told(driver: FakeDriver) -> None:
    driver.says(INIT=9)
    detection = await detect_slots(driver.options())
    assert [slot.type for slot in detection.usable] == ["cpu"]
    assert "NVML error 9" in detection.notes[0]


async def test_gpus_are_preferred(driver: FakeDriver) -> None:
    assert await types(driver) == ["cuda", "cuda"]


@pytest.mark.parametrize("number", [9, 12, 15, 18, 999])
@pytest.mark.parametrize("trace", [with_device_node, with_kernel_entry])
async def test_gpus_that_cannot_be_read_never_become_a_cpu(
    driver: FakeDriver, number: int, trace: object
) -> None:
    trace(driver)  # type: ignore[operator]
    if number == 12:
        driver.without_library()
    driver.says(INIT=number)
    with pytest.raises(SlotsUnknown, match=rf"there are NVIDIA GPUs here.*NVML error {number}: \S"):
        await types(driver)


async def test_a_driver_that_is_not_loaded_yet_is_no_machine_without_gpus(
    driver: FakeDriver,
) -> None:
    with_pci_device(driver)
    driver.says(INIT=9)
    with pytest.raises(SlotsUnknown, match=r"PCI 0000:c1:00\.0.*modprobe nvidia"):
        await types(driver)


async def test_a_card_nobody_installed_a_driver_for_is_told(driver: FakeDriver) -> None:
    with_pci_device(driver)
    driver.without_library()
    detection = await detect_slots(driver.options())
    assert [slot.type for slot in detection.usable] == ["cpu"]
    assert "no driver" in detection.notes[0]


async def test_a_driver_without_gpus_is_told(driver: FakeDriver) -> None:
    driver.says(N=0)
    detection = await detect_slots(driver.options())
    assert [slot.type for slot in detection.usable] == ["cpu"]
    assert "lists no GPU" in detection.notes[0]
    with pytest.raises(SlotsUnknown, match="lists no GPU"):
        await types(driver, slot_type="cuda")


@pytest.mark.parametrize(
    ("slot_type", "expected"), [("none", []), ("cpu", ["cpu"]), ("gpu", ["cuda", "cuda"])]
)
async def test_the_type_that_is_asked_for_is_offered(
    driver: FakeDriver, slot_type: str, expected: list[str]
) -> None:
    assert await types(driver, slot_type=slot_type) == expected


async def test_artificial_slots_win_over_every_type(driver: FakeDriver) -> None:
    assert await types(driver, slot_type="none", artificial_slots=3) == ["cpu"] * 3


def test_artificial_slots_are_the_agents_own_for_ever() -> None:
    first = make_artificial(agent_id="agent-297", number=4)
    assert first == make_artificial(agent_id="agent-297", number=4)
    assert first[:2] == make_artificial(agent_id="agent-297", number=2)
    other = make_artificial(agent_id="agent-298", number=4)
    assert len({slot.uuid for slot in first + other}) == 8
    assert all(uuid.UUID(slot.uuid).version == 4 for slot in first)


def test_the_cpu_is_the_same_after_a_restart_and_another_on_another_machine(
    driver: FakeDriver,
) -> None:
    (driver.root / "etc").mkdir()
    (driver.root / "etc/machine-id").write_text("1" * 32 + "\n")
    first = read_cpu(agent_id="node", root=driver.root)
    assert first == read_cpu(agent_id="node", root=driver.root)
    assert "1111" not in first.uuid
    (driver.root / "etc/machine-id").write_text("2" * 32 + "\n")
    assert first.uuid != read_cpu(agent_id="node", root=driver.root).uuid


def test_the_brand_of_a_cpu_does_not_depend_on_order() -> None:
    big, little = "model name\t: Big 3000\n", "model name : Little: 20\n"
    assert parse_brand(big + little + big) == "Big 3000 x 2 cores, Little: 20 x 1 cores"
    assert parse_brand(big + little + big) == parse_brand(little + big + big)
    assert parse_brand("processor : 0\nBogoMIPS : 1\nprocessor : 1\n").endswith("x 2 cores")
    assert parse_brand("").endswith("x 1 cores")


async def test_health_changes_show_up_and_heal(driver: FakeDriver) -> None:
    options = driver.options(slot_type="cuda")
    watch = SlotWatch(options, await detect_slots(options))
    lost = watch.offered[1].uuid
    assert watch.problem(lost) is None
    driver.says(HANDLE1=15)
    await watch.look()
    assert "lost" in (watch.problem(lost) or "")
    assert watch.problem(watch.offered[0].uuid) is None
    assert not watch.differs.is_set()
    await watch.look()
    assert watch.differs.is_set()
    driver.says()
    await watch.look()
    assert watch.problem(lost) is None
    assert not watch.differs.is_set()


async def test_a_driver_that_fails_later_makes_all_its_devices_unfit(driver: FakeDriver) -> None:
    options = driver.options(slot_type="cuda")
    watch = SlotWatch(options, await detect_slots(options))
    driver.says(INIT=18)
    await watch.look()
    assert all("driver releases" in (watch.problem(slot.uuid) or "") for slot in watch.offered)


async def test_a_device_that_appears_asks_for_a_new_registration(driver: FakeDriver) -> None:
    options = driver.options(slot_type="cuda")
    watch = SlotWatch(options, await detect_slots(options))
    driver.says(N=3)
    await watch.look()
    await watch.look()
    assert watch.differs.is_set()
    assert len(watch.offered) == 2
