"""The numbers of devices that Slurm names by UUID."""

from __future__ import annotations

from shipway_agent.job.devices import find_numbers
from shipway_agent.job.rank import with_plain_devices
from shipway_agent.slots.slot import Slot


def make_slot(number: int, uuid: str, gpu: int, **changes: str) -> Slot:
    return Slot(id=number, type="cuda", brand="A100", uuid=uuid, gpu_index=gpu, **changes)  # type: ignore[arg-type]


SLOTS = [
    make_slot(7, "MIG-aaaa-1", 0, parent_uuid="GPU-1111-2222"),
    Slot(
        id=8,
        type="cuda",
        brand="A100",
        uuid="MIG-aaaa-2",
        gpu_index=0,
        parent_uuid="GPU-1111-2222",
        aliases=("MIG-GPU-1111-2222/9/0",),
    ),
    make_slot(1, "GPU-6666-7777", 1),
    make_slot(2, "GPU-6688-7777", 2),
]


def test_every_spelling_finds_its_number() -> None:
    expected = {
        "GPU-6666-7777": 1,
        "GPU-668": 2,
        "MIG-aaaa-1": 7,
        "MIG-GPU-1111-2222/9/0": 8,
        "GPU-1111-2222": 0,
    }
    assert find_numbers(SLOTS, list(expected)) == expected


def test_what_names_nothing_or_two_has_none() -> None:
    assert find_numbers(SLOTS, ["GPU-", "GPU-66", "GPU-9999", "MIG-b"]) == {}


def test_only_whole_devices_are_named_by_index() -> None:
    def plain(value: str) -> str:
        environment = {"DET_SLOT_TYPE": "cuda", "CUDA_VISIBLE_DEVICES": value}
        numbers = find_numbers(SLOTS, value.split(","))
        return with_plain_devices(environment, numbers)["CUDA_VISIBLE_DEVICES"]

    assert plain("GPU-6688-7777,GPU-6666-7777") == "2,1"
    assert plain("MIG-aaaa-1") == "MIG-aaaa-1"
    assert plain("GPU-6688-7777,GPU-9999") == "GPU-6688-7777,GPU-9999"
