"""AMD GPUs, as their vendor's programs and their driver's files tell of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.process import StuckProcesses
from shipway_agent.slots.rocm_errors import check_errors
from shipway_agent.slots.rocm_programs import ask, ask_each, find_program
from shipway_agent.slots.rocm_text import Card, read_hex
from shipway_agent.slots.slot import Slot
from shipway_agent.slots.traces import find_amd_traces


@dataclass(frozen=True, slots=True, kw_only=True)
class RocmGpus:
    """What was told; no slots if the program lists no GPU."""

    slots: tuple[Slot, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]


async def survey_gpus(
    *, environ: Mapping[str, str], root: Path, timeout_s: float, stuck: StuckProcesses
) -> RocmGpus:
    """Ask about all AMD GPUs.

    Args:
        root: Where /opt and /sys are.
        timeout_s: Limit for each run of a program; the whole takes at most seven of it.

    Raises:
        NoRocmProgram: There is none to ask.
        SlotsUnknown: It does not answer, or in a form that cannot be read.
    """
    program = await asyncio.to_thread(find_program, environ, root)
    said: list[str] = []
    try:
        told = await ask(program, environ, timeout_s, stuck)
    except SlotsUnknown as error:
        traces = await asyncio.to_thread(find_amd_traces, root)
        number = len(traces.driver) or len(traces.hardware)
        one_by_one = await ask_each(program, number, environ, timeout_s, stuck)
        if one_by_one is None:
            raise
        told = one_by_one
        said.append(f"the AMD GPUs had to be asked one by one: {error}")
    slots, notes = _make_slots(told.cards)
    slots = await check_errors(slots, environ, root, timeout_s, stuck)
    versions = {"AMD driver": told.driver} if told.driver else {}
    return RocmGpus(slots=tuple(slots), notes=(*said, *notes), versions=versions)


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
    if card.problem is not None:
        return card.problem
    if not uuid:
        return "it tells neither a unique id of its own nor its PCI address"
    if card.pci_bus is None:
        return "it does not tell its PCI address, by which its device files are found"
    return None
