"""What is offered after a restart, when devices have changed and containers are still here."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.offer import OfferStore, begin_watch
from shipway_agent.slots.slot import Slot
from shipway_agent.slots.watch import SlotWatch
from tests.agent.slots.fake_driver import FakeDriver


@pytest.fixture
def store(tmp_path: Path) -> OfferStore:
    return OfferStore(file=tmp_path / "slots.json", agent_id="node")


async def begin(driver: FakeDriver, store: OfferStore, *, in_use: bool = True) -> SlotWatch:
    return await begin_watch(driver.options(slot_type="cuda"), store, in_use=in_use)


def ids(watch: SlotWatch) -> list[int]:
    return [slot.id for slot in watch.offered]


def names(watch: SlotWatch) -> list[tuple[int, str, str | None]]:
    return [(slot.id, slot.uuid, slot.pci_bus) for slot in watch.offered]


async def test_a_device_that_fell_ill_is_still_offered_while_something_runs(
    driver: FakeDriver, store: OfferStore
) -> None:
    first = await begin(driver, store)
    driver.says(HANDLE1=15)
    again = await begin(driver, store)
    assert names(again) == names(first)
    assert list(again.problems()) == [1]
    assert "lost" in again.problems()[1]
    assert again.differs.is_set()
    assert ids(await begin(driver, store, in_use=False)) == [0]


async def test_a_driver_that_fails_does_not_keep_the_agent_from_its_containers(
    driver: FakeDriver, store: OfferStore
) -> None:
    await begin(driver, store)
    driver.says(INIT=18)
    again = await begin(driver, store)
    assert ids(again) == [0, 1]
    assert all("driver releases" in problem for problem in again.problems().values())
    driver.says()
    await again.look()
    assert again.problems() == {}
    assert not again.differs.is_set()
    driver.says(INIT=18)
    with pytest.raises(SlotsUnknown):
        await begin(driver, store, in_use=False)


async def test_instances_keep_their_numbers_when_a_gpu_before_them_is_lost(
    driver: FakeDriver, store: OfferStore
) -> None:
    driver.says(N=2, MIG0=2)
    first = await begin(driver, store)
    assert ids(first) == [0, 1, 2]
    driver.says(N=2, MIG0=2, HANDLE0=15)
    again = await begin(driver, store)
    assert names(again) == names(first)
    assert sorted(again.problems()) == [0, 1]


async def test_other_settings_wait_until_nothing_runs(
    driver: FakeDriver, store: OfferStore
) -> None:
    options = driver.options(artificial_slots=4)
    await begin_watch(options, store, in_use=False)
    fewer = driver.options(artificial_slots=2)
    watch = await begin_watch(fewer, store, in_use=True)
    assert ids(watch) == [0, 1, 2, 3]
    assert watch.problems() == {}
    assert watch.differs.is_set()


async def test_a_patient_master_keeps_the_agent_until_there_is_more_to_offer(
    driver: FakeDriver, store: OfferStore
) -> None:
    watch = await begin(driver, store)
    changes: list[dict[int, str]] = []
    watch.on_change = lambda: changes.append(watch.problems())
    watch.be_patient(True)
    driver.says(HANDLE1=15)
    await watch.look()
    await watch.look()
    assert not watch.differs.is_set()
    assert [list(change) for change in changes] == [[1]]
    watch.be_patient(False)  # a master that cannot be told has taken over
    assert watch.differs.is_set()
    watch.be_patient(True)
    assert not watch.differs.is_set()
    driver.says(N=3)
    await watch.look()
    await watch.look()
    assert watch.differs.is_set()
    assert [list(change) for change in changes] == [[1], []]


async def test_a_machine_gets_its_driver_later(driver: FakeDriver, store: OfferStore) -> None:
    options = driver.options()
    driver.says(INIT=9)
    watch = await begin_watch(options, store, in_use=False)
    assert [slot.type for slot in watch.offered] == ["cpu"]
    driver.says()
    await watch.look()
    await watch.look()
    assert watch.differs.is_set()
    assert watch.problems() == {}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b'{"version": 9, "agent_id": "node", "offered": []}',
        b'{"version": 1, "agent_id": "node", "offered": [{"id": 0}]}',
        b'{"version": 1, "agent_id": "other", "offered": []}',
        b"\xff",
    ],
)
async def test_a_file_that_cannot_be_used_counts_as_none(
    driver: FakeDriver, store: OfferStore, text: bytes
) -> None:
    store.file.write_bytes(text)
    assert ids(await begin(driver, store)) == [0, 1]


def test_what_was_offered_comes_back_as_it_was(store: OfferStore) -> None:
    slot = Slot(
        id=3,
        type="rocm",
        brand="día\ud800",
        uuid="0x1",
        memory_bytes=1,
        gpu_index=3,
        pci_bus="0000:01:00.0",
        aliases=("GPU-1",),
    )
    store.save([slot])
    assert store.load() == (slot,)
