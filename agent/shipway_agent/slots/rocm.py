"""AMD GPUs, asked through rocm-smi, or amd-smi where that is missing.

A vendor's program may hang or crash as its driver does, so it gets a deadline, and is ended with
all that it started. Errors that the driver counts are read from its files by a helper process.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.process import StuckProcesses, helper
from shipway_agent.slots.rocm_text import Card, Told, read_amd_smi, read_hex, read_rocm_smi
from shipway_agent.slots.slot import Slot

_OUTPUT_LIMIT_BYTES = 1 << 20
_ras_helper = Path(__file__).with_name("ras_probe.py")

_identity = ("--showuniqueid", "--showbus")
_rocm_smi_calls = (
    (*_identity, "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--json"),
    (*_identity, "--json"),  # some releases fail over a name that they do not know
)
_amd_smi_calls = (
    ("static", "--asic", "--board", "--bus", "--vram", "--driver", "--json"),
    ("static", "--json"),
)


class NoRocmProgram(SlotsUnknown):
    """Neither rocm-smi nor amd-smi is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RocmGpus:
    """What was told; no slots if the program lists no GPU."""

    slots: tuple[Slot, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    path: str
    name: str
    calls: Sequence[Sequence[str]]
    read: Callable[[bytes], Told | None]


async def survey_gpus(
    *, environ: Mapping[str, str], root: Path, timeout_s: float, stuck: StuckProcesses
) -> RocmGpus:
    """Ask about all AMD GPUs.

    Args:
        root: Where /opt and /sys are.
        timeout_s: Limit for each run of a program; there are at most three.

    Raises:
        NoRocmProgram: There is none to ask.
        SlotsUnknown: It does not answer, or in a form that cannot be read.
    """
    program = await asyncio.to_thread(_find_program, environ, root)
    told = await _ask(program, environ, timeout_s, stuck)
    slots, notes = _make_slots(told.cards)
    slots = await _check_errors(slots, environ, root, timeout_s, stuck)
    versions = {"AMD driver": told.driver} if told.driver else {}
    return RocmGpus(slots=tuple(slots), notes=tuple(notes), versions=versions)


async def looks_unchanged(
    slots: Sequence[Slot],
    *,
    environ: Mapping[str, str],
    root: Path,
    timeout_s: float,
    stuck: StuckProcesses,
) -> bool:
    """Say whether the kernel still has all the cards and counts no new errors.

    That costs a hundredth of a run of rocm-smi, which takes most of a second for itself.
    """
    told: dict[str, Any] = {}
    buses = sorted({slot.pci_bus for slot in slots if slot.pci_bus})
    await _read_errors(buses, told, environ, root, timeout_s, stuck)
    return all(
        (card := told.get(slot.pci_bus or "")) is not None
        and card["there"]
        and _judge(slot, card, "").problem is None
        for slot in slots
    )


def _find_program(environ: Mapping[str, str], root: Path) -> _Program:
    # A service's PATH seldom has ROCm's own folder.
    folders = [*environ.get("PATH", "").split(":"), str(root / "opt/rocm/bin")]
    path = ":".join(folder for folder in folders if folder)
    if found := shutil.which("rocm-smi", path=path):
        return _Program(path=found, name="rocm-smi", calls=_rocm_smi_calls, read=read_rocm_smi)
    if found := shutil.which("amd-smi", path=path):
        return _Program(path=found, name="amd-smi", calls=_amd_smi_calls, read=read_amd_smi)
    raise NoRocmProgram(
        "neither rocm-smi nor amd-smi is installed (looked for in PATH and /opt/rocm/bin)"
    )


async def _ask(
    program: _Program, environ: Mapping[str, str], timeout_s: float, stuck: StuckProcesses
) -> Told:
    """Try the calls in turn until one is answered.

    The exit status does not count: there are releases that end with 2 after a good answer, and
    with 0 after none.
    """
    if pid := stuck.find(program.name):
        raise SlotsUnknown(f"the driver still holds process {pid} ({program.name}): reboot")
    problem = ""
    for call in program.calls:
        argv = [program.path, *call]
        output, said = await _run(argv, program.name, environ, timeout_s, stuck)
        if (told := program.read(output)) is not None:
            return told
        problem = problem or said
    if "No JSON data to report" in problem:
        return Told(cards=())
    raise SlotsUnknown(f"{program.name} told nothing that can be read: {problem}")


async def _run(
    argv: Sequence[str],
    name: str,
    environ: Mapping[str, str],
    timeout_s: float,
    stuck: StuckProcesses,
) -> tuple[bytes, str]:
    """Run a program; returns its output and, in words, what else came of it.

    One that hangs after it has answered, or leaves somebody behind who keeps its output open, has
    answered.
    """
    # They are Python programs, with modules of their own.
    kept = {name: text for name, text in environ.items() if not name.startswith("PYTHON")}
    surroundings = {**kept, "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    output, errors = bytearray(), bytearray()
    try:
        async with helper(argv, surroundings, subject=name, stuck=stuck) as running:
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.gather(
                        _read(running.stdout, output), _read(running.stderr, errors)
                    )
                end = await running.wait(timeout_s)
            except TimeoutError:
                end = f"did not answer within {timeout_s:g} s"
    except OSError as error:
        raise SlotsUnknown(f"{argv[0]} cannot be started: {error}") from error
    first = " ".join((errors + output).decode("utf-8", "replace").split())[:200]
    return bytes(output), f"it {end} and said {first!r}" if first else f"it {end} and said nothing"


async def _read(stream: asyncio.StreamReader, into: bytearray) -> None:
    """Read to the end or to the limit; the reader of the text sees that it is cut."""
    while len(into) < _OUTPUT_LIMIT_BYTES and (part := await stream.read(1 << 16)):
        into += part


def _make_slots(cards: Sequence[Card]) -> tuple[list[Slot], list[str]]:
    """Make a slot of each card, and distinct ids where the cards tell none or the same."""
    shared = Counter(card.unique_id for card in cards if card.unique_id)
    slots: list[Slot] = []
    notes: list[str] = []
    for card in cards:
        digits = read_hex(card.unique_id) if card.unique_id else None
        is_own = card.unique_id is not None and shared[card.unique_id] == 1
        uuid = card.unique_id if is_own else _name_by_bus(card)
        if uuid and not is_own:
            why = "shares its unique id with others" if card.unique_id else "tells no unique id"
            notes.append(f"AMD GPU {card.index} {why}; it is known as {uuid}")
        slots.append(
            Slot(
                id=card.index,
                gpu_index=card.index,
                type="rocm",
                brand=card.name or "AMD GPU",
                uuid=uuid or "",
                memory_bytes=card.memory_bytes,
                pci_bus=card.pci_bus,
                aliases=(f"GPU-{digits}",) if digits else (),
                problem=_find_problem(card, uuid),
            )
        )
    return slots, notes


def _name_by_bus(card: Card) -> str | None:
    if card.pci_bus is None:
        return None
    return f"{card.unique_id}@{card.pci_bus}" if card.unique_id else f"pci@{card.pci_bus}"


def _find_problem(card: Card, uuid: str | None) -> str | None:
    if not uuid:
        return "it tells neither a unique id of its own nor its PCI address"
    if card.pci_bus is None:
        return "it does not tell its PCI address, by which its device files are found"
    return None


async def _check_errors(
    slots: Sequence[Slot],
    environ: Mapping[str, str],
    root: Path,
    timeout_s: float,
    stuck: StuckProcesses,
) -> list[Slot]:
    """Add to the slots what the driver counted of errors that could not be corrected."""
    buses = sorted({slot.pci_bus for slot in slots if slot.pci_bus})
    if not buses:
        return list(slots)
    told: dict[str, Any] = {}
    why = await _read_errors(buses, told, environ, root, timeout_s, stuck)
    return [_judge(slot, told.get(slot.pci_bus or ""), why) for slot in slots]


async def _read_errors(
    buses: Sequence[str],
    told: dict[str, Any],
    environ: Mapping[str, str],
    root: Path,
    timeout_s: float,
    stuck: StuckProcesses,
) -> str:
    """Fill *told* by bus; returns why a bus may be missing from it."""
    subject = "error counts of the AMD driver"
    if pid := stuck.find(subject):
        return f"failed: the driver still holds process {pid}: reboot"
    folder = root / "sys/bus/pci/devices"
    argv = [sys.executable, "-P", str(_ras_helper), str(folder), *buses]
    try:
        async with helper(argv, environ, subject=subject, stuck=stuck) as running:
            while True:
                async with asyncio.timeout(timeout_s):
                    line = await running.stdout.readline()
                if not line:
                    return f"failed: the helper {await running.wait(timeout_s)}"
                answer = json.loads(line)
                told[answer["bus"]] = answer
    except TimeoutError:
        return f"failed: not answered within {timeout_s:g} s"
    except OSError as error:
        return f"failed: {error}"


def _judge(slot: Slot, told: Mapping[str, Any] | None, why: str) -> Slot:
    name = "uncorrectable errors"
    if slot.pci_bus is None:
        return slot
    if told is None:
        problem = f"{name}: {why}"
        return replace(slot, problem=slot.problem or problem, checks={name: why})
    counts: Mapping[str, int | None] = told["uncorrected"]
    if not counts:
        return replace(slot, checks={name: "not supported"})
    number = sum(count or 0 for count in counts.values())
    if not number:
        words = "not told" if None in counts.values() else "0"
        return replace(slot, checks={name: words})
    blocks = ", ".join(f"{block} {count}" for block, count in sorted(counts.items()) if count)
    problem = (
        f"{number} uncorrectable errors ({blocks}) since the driver was loaded: the GPU must be"
        " reset, and replaced if they come again"
    )
    return replace(slot, problem=slot.problem or problem, checks={name: str(number)})
