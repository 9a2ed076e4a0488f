"""AMD cards, by what rocm-smi and amd-smi print."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.detect import detect_slots, require_usable
from shipway_agent.slots.rocm_text import Card, read_amd_smi, read_hex, read_rocm_smi
from shipway_agent.slots.slot import Detection, Slot
from shipway_agent.slots.watch import SlotWatch
from tests.agent.slots.fake_rocm import FakeRocm

ONE = '{"card0": {"Unique ID": "0x1", "PCI Bus": "0000:01:00.0", "Card Series": "Instinct X"}}\n'
TWO = (
    '{"card0": {"Unique ID": "0x1", "PCI Bus": "0000:01:00.0"},'
    ' "card1": {"Unique ID": "0x2", "PCI Bus": "0000:02:00.0"}}\n'
)
NONE_TOLD = "WARNING: No JSON data to report\n"


@pytest.fixture
def rocm(tmp_path: Path) -> FakeRocm:
    machine = FakeRocm(tmp_path)
    machine.install()
    return machine


async def detect(rocm: FakeRocm, **changes: object) -> Detection:
    return await detect_slots(rocm.options(**changes))


async def test_a_card_is_known_by_its_unique_id(rocm: FakeRocm) -> None:
    rocm.says_file("rocm-smi-5.2-mi100.txt")
    detection = await detect(rocm)
    assert detection.usable[1] == Slot(
        id=1,
        gpu_index=1,
        type="rocm",
        brand="Arcturus GL-XL [AMD Instinct MI100]",
        uuid="0x9f8e2a31c0de0002",
        memory_bytes=34342961152,
        pci_bus="0000:c3:00.0",
        aliases=("GPU-9f8e2a31c0de0002",),
        checks={"uncorrectable errors": "not supported"},
    )
    assert detection.versions == {"AMD driver": "5.16.9.22.20"}
    assert detection.notes == ()


async def test_a_card_without_an_id_is_known_by_its_place(rocm: FakeRocm) -> None:
    rocm.says_file("rocm-smi-6.2-radeon-780m.txt")
    detection = await detect(rocm)
    assert [(slot.brand, slot.uuid) for slot in detection.usable] == [
        ("Phoenix3", "pci@0000:c4:00.0")
    ]
    assert detection.notes == ("AMD GPU 0 tells no unique id; it is known as pci@0000:c4:00.0",)


async def test_partitions_of_one_card_are_told_apart(rocm: FakeRocm) -> None:
    rocm.says_file("rocm-smi-6.3-mi300a-tpx.txt")
    detection = await detect(rocm)
    assert [(slot.id, slot.uuid, slot.memory_bytes) for slot in detection.usable] == [
        (0, "0xf0a1b2c3d4e5f607@0000:01:00.0", 137438953472),
        (1, "0xf0a1b2c3d4e5f607@0000:01:00.1", None),
        (2, "0xf0a1b2c3d4e5f607@0000:01:00.2", None),
    ]
    assert len(detection.notes) == 3


async def test_amd_smi_takes_the_place_of_rocm_smi(tmp_path: Path) -> None:
    rocm = FakeRocm(tmp_path)
    rocm.install("amd-smi")
    rocm.says_file("amd-smi-7.0-mi350x.json")
    detection = await detect(rocm)
    assert [(slot.brand, slot.uuid, slot.memory_bytes) for slot in detection.usable] == [
        ("AMD Instinct MI350X", "0x2F6FD1B1A2D30A11", 294896 << 20),
        ("Advanced Micro Devices Inc. [AMD/ATI]", "pci@0000:15:00.0", None),
    ]
    assert detection.usable[0].aliases == ("GPU-2f6fd1b1a2d30a11",)
    assert detection.versions == {"AMD driver": "6.14.14"}
    rocm.says_file("amd-smi-6.2-mi210.json")
    (slot,) = (await detect(rocm)).usable
    assert (slot.brand, slot.uuid) == ("Instinct MI210", "0x00A2B3C4D5E6F708")


async def test_rocm_smi_in_the_path_comes_first(rocm: FakeRocm, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    program = own / "rocm-smi"
    program.write_text(f"#!/bin/sh\necho '{ONE.strip()}'\n")
    program.chmod(0o755)
    environ = {"PATH": f"{own}:{rocm.environ['PATH']}"}
    assert len((await detect(rocm, environ=environ)).usable) == 1
    assert rocm.calls() == []


async def test_a_name_that_a_release_cannot_tell_costs_only_the_name(rocm: FakeRocm) -> None:
    rocm.says(ONE)
    rocm.refuses("--showproductname")
    (slot,) = (await detect(rocm)).usable
    assert slot.uuid == "0x1"
    assert [call.split()[-1] for call in rocm.calls()] == ["--json", "--json"]
    assert "--showproductname" not in rocm.calls()[1]


@pytest.mark.parametrize("status", [0, 1, 2, 255])
async def test_the_exit_status_says_nothing(rocm: FakeRocm, status: int) -> None:
    rocm.says(f"WARNING: low-power state\n\n{ONE}", stderr="ERROR: x\n", status=status)
    assert [slot.uuid for slot in (await detect(rocm)).usable] == ["0x1"]


@pytest.mark.parametrize(
    ("stdout", "stderr", "text"),
    [
        ("", "ERROR:root:Driver not initialized (amdgpu not found in modules)\n", "amdgpu not"),
        ("Traceback: RSMI_STATUS 8\n", "", "RSMI_STATUS 8"),
        ('{"card0": {"Unique', "", "Unique"),
        ('{"system": {"Driver version": "6.3"}}\n', "", "Driver version"),
        ("[" * 100_000, "", "told nothing that can be read"),
        ("\0\n\x1b[31m", "", "told nothing that can be read"),
    ],
    ids=["no driver", "text", "cut", "no cards", "deep", "control"],
)
async def test_what_is_no_answer_is_an_error_that_shows_it(
    rocm: FakeRocm, stdout: str, stderr: str, text: str
) -> None:
    rocm.says(stdout, stderr=stderr)
    with pytest.raises(SlotsUnknown) as caught:
        await detect(rocm)
    assert text in str(caught.value)
    assert len(str(caught.value)) < 500


async def test_no_cards_is_an_answer(rocm: FakeRocm) -> None:
    rocm.says("", stderr=NONE_TOLD)
    with pytest.raises(SlotsUnknown, match="lists no GPU"):
        await detect(rocm)


@pytest.mark.parametrize(
    ("before", "timeout_s", "words"),
    [
        ("sleep 1000", 0.2, "did not answer within 0.2 s"),
        ("kill -STOP $$", 0.2, "did not answer within 0.2 s"),
        ("kill -SEGV $$", 10, "SIGSEGV"),
        ("cat /dev/zero", 0.5, "did not answer within 0.5 s"),
        ("sleep 1000 & exit 0", 0.2, "did not answer within 0.2 s"),
    ],
    ids=["hangs", "stopped", "crashes", "floods", "leaves a child"],
)
async def test_a_program_that_misbehaves_is_left(
    rocm: FakeRocm, before: str, timeout_s: float, words: str
) -> None:
    rocm.says(ONE, before=before)
    with pytest.raises(SlotsUnknown) as caught:
        await detect(rocm, timeout_s=timeout_s)
    assert words in str(caught.value)


async def test_a_card_that_hangs_the_program_does_not_hide_the_others(rocm: FakeRocm) -> None:
    for number, bus in ((1, "0000:01:00.0"), (2, "0000:02:00.0"), (3, "0000:03:00.0")):
        rocm.plug(bus, kfd=number)
    answers = {
        index: f'{{"card{index}": {{"Unique ID": "0x{index + 1}", "PCI Bus": "0000:0{index + 1}:00.0"}}}}'
        for index in (0, 2)
    }
    cases = " ".join(f"*' -d {index}') echo '{text}';;" for index, text in answers.items())
    rocm.says("", before=f'case "$*" in {cases} *) sleep 1000;; esac')
    slots = (await detect(rocm, timeout_s=1.0)).slots
    assert [(slot.id, slot.uuid) for slot in slots if not slot.problem] == [(0, "0x1"), (2, "0x3")]
    assert "did not answer within 1 s" in (slots[1].problem or "")


@pytest.mark.parametrize("after", ["sleep 1000", "sleep 1000 & exit 0"], ids=["hangs", "leaves"])
async def test_a_program_that_answers_and_does_not_end_has_answered(
    rocm: FakeRocm, after: str
) -> None:
    rocm.says("", before=f"echo '{ONE.strip()}'; {after}")
    assert [slot.uuid for slot in (await detect(rocm, timeout_s=1)).usable] == ["0x1"]


async def test_a_card_that_tells_nothing_of_itself_is_shown_and_not_offered(
    rocm: FakeRocm,
) -> None:
    rocm.says(
        '{"card0": {"Card Series": "N/A"}, "card1": {"Unique ID": "0x7", "PCI Bus": "N/A"},'
        ' "card10": {"Unique ID": "0x9", "PCI Bus": "0000:0A:00.0", "Card Series": "X"},'
        ' "cardx": {"Unique ID": "0x8"}}'
    )
    detection = await detect(rocm)
    assert [(slot.id, slot.brand, bool(slot.problem)) for slot in detection.slots] == [
        (0, "AMD GPU", True),
        (1, "AMD GPU", True),
        (10, "X", False),
    ]


async def test_counted_errors_make_a_card_unfit(rocm: FakeRocm) -> None:
    rocm.says(TWO)
    rocm.plug("0000:01:00.0", counts={"umc": "ue: 2\nce: 7\n", "gfx": "ue: 0\nce: 0\n"})
    rocm.plug("0000:02:00.0", counts={"umc": "ue: 0\nce: 9\nde: 0\n"})
    ill, well = (await detect(rocm)).slots
    assert "2 uncorrectable errors (umc 2)" in (ill.problem or "")
    assert (well.problem, well.checks) == (None, {"uncorrectable errors": "0"})
    rocm.plug("0000:01:00.0", counts={"umc": "?\n"})
    ill, well = (await detect(rocm)).slots
    assert (ill.problem, ill.checks) == (None, {"uncorrectable errors": "not told"})


@pytest.mark.parametrize(
    ("environ", "changes", "ids"),
    [
        ({}, {}, [0, 1]),
        ({"ROCR_VISIBLE_DEVICES": "1"}, {}, [1]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-0000000000000002"}, {}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, {}, [0]),
        ({"ROCR_VISIBLE_DEVICES": "1", "CUDA_VISIBLE_DEVICES": "0"}, {}, [1]),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, {}, [0, 1]),
        ({"ROCR_VISIBLE_DEVICES": ""}, {"visible_gpus": "0x2"}, [1]),
    ],
)
async def test_visible_cards(
    rocm: FakeRocm, environ: dict[str, str], changes: dict[str, object], ids: list[int]
) -> None:
    rocm.says(TWO)
    detection = await detect(rocm, environ={**rocm.environ, **environ}, **changes)
    assert [slot.id for slot in detection.usable] == ids


async def test_auto_takes_the_cards_of_amd_where_there_is_no_other(rocm: FakeRocm) -> None:
    rocm.says(TWO)
    detection = await detect(rocm, slot_type="auto")
    assert [slot.type for slot in detection.usable] == ["rocm", "rocm"]


@pytest.mark.parametrize(
    ("stdout", "stderr"), [("", "ERROR: x\n"), ("", NONE_TOLD)], ids=["fails", "none"]
)
async def test_cards_that_cannot_be_read_never_become_a_cpu(
    rocm: FakeRocm, stdout: str, stderr: str
) -> None:
    rocm.plug("0000:01:00.0", kfd=1)
    rocm.says(stdout, stderr=stderr)
    with pytest.raises(SlotsUnknown, match=r"there are AMD GPUs here \(KFD node 1, PCI 0000:01"):
        await detect(rocm, slot_type="auto")


async def test_a_desktop_without_rocm_offers_its_cpu_and_says_why(tmp_path: Path) -> None:
    rocm = FakeRocm(tmp_path)
    rocm.plug("0000:01:00.0", kfd=1)
    detection = await detect(rocm, slot_type="auto")
    assert [slot.type for slot in detection.usable] == ["cpu"]
    assert "neither rocm-smi nor amd-smi is installed" in detection.notes[0]
    with pytest.raises(SlotsUnknown, match="neither rocm-smi nor amd-smi"):
        await detect(rocm)


async def test_a_machine_with_a_program_and_no_cards_offers_its_cpu(rocm: FakeRocm) -> None:
    rocm.says("", stderr="ERROR:root:Driver not initialized (amdgpu not found in modules)\n")
    detection = await detect(rocm, slot_type="auto")
    assert ([slot.type for slot in detection.usable], detection.notes) == (["cpu"], ())


async def test_a_card_that_falls_ill_heals_by_itself(rocm: FakeRocm) -> None:
    rocm.says(TWO)
    options = rocm.options()
    watch = SlotWatch(options, await detect_slots(options))
    rocm.says(ONE)
    await watch.look()
    assert watch.problems() == {1: "the driver does not list it any more"}
    rocm.says("", before="sleep 1000")
    slow = SlotWatch(rocm.options(timeout_s=0.3), await _told(rocm))
    await slow.look()
    assert set(slow.problems()) == {0, 1}
    rocm.says(TWO)
    await watch.look()
    assert watch.problems() == {}


async def test_a_quiet_card_is_seldom_asked_at_length(rocm: FakeRocm) -> None:
    rocm.says(TWO)
    rocm.plug("0000:01:00.0", counts={"umc": "ue: 0\nce: 0\n"})
    rocm.plug("0000:02:00.0")
    options = rocm.options()
    watch = SlotWatch(options, await detect_slots(options))
    for _ in range(20):
        await watch.look()
    assert len(rocm.calls()) == 3
    rocm.plug("0000:01:00.0", counts={"umc": "ue: 1\nce: 0\n"})
    await watch.look()
    assert list(watch.problems()) == [0]
    rocm.plug("0000:01:00.0", counts={"umc": "ue: 0\nce: 0\n"})
    await watch.look()
    assert watch.problems() == {}
    rocm.unplug("0000:02:00.0")
    rocm.says(ONE)
    await watch.look()
    assert watch.problems() == {1: "the driver does not list it any more"}


async def test_the_errors_of_a_card_are_those_of_its_partitions(rocm: FakeRocm) -> None:
    rocm.says_file("rocm-smi-6.3-mi300a-tpx.txt")
    rocm.plug("0000:01:00.0", counts={"umc": "ue: 1\nce: 0\n"})
    assert [bool(slot.problem) for slot in (await detect(rocm)).slots] == [True] * 3


async def _told(rocm: FakeRocm) -> Detection:
    rocm.says(TWO)
    detection = await detect(rocm)
    rocm.says("", before="sleep 1000")
    require_usable(detection)
    return detection


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x1", "0000000000000001"),
        ("9F8E2A31C0DE0001", "9f8e2a31c0de0001"),
        ("0x0", None),
        ("N/A", None),
        ("0x11112222333344445", None),
    ],
)
def test_the_digits_of_an_id(text: str, expected: str | None) -> None:
    assert read_hex(text) == expected


def test_words_for_nothing_are_nothing() -> None:
    members = {
        "Unique ID": "0x0",
        "PCI Bus": "unknown",
        "Card Series": " N/A ",
        "Card Model": None,
        "Card Vendor": "AMD",
        "VRAM Total Memory (B)": "18446744073709551615",
    }
    told = read_rocm_smi(json.dumps({"card3": members}).encode())
    assert told is not None
    assert told.cards == (Card(index=3, name="AMD"),)


def test_text_around_the_json_does_not_matter() -> None:
    text = f"{{not json\n[1, 2]\n======\n  {ONE.strip()} and more\n{{}}\n"
    told = read_rocm_smi(text.encode() + b"\xff\xfe\n")
    assert told is not None
    assert [card.unique_id for card in told.cards] == ["0x1"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '[{"gpu": true}]', '[{"gpu": "0"}]', "[7]"])
def test_no_list_of_gpus_is_no_answer_of_amd_smi(text: str) -> None:
    assert read_amd_smi(text.encode()) is None
