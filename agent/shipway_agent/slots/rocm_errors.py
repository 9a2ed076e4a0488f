"""The errors that the AMD driver counts, read from its files by a helper process."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shipway_agent.slots.process import StuckProcesses, helper
from shipway_agent.slots.slot import Slot

_ras_helper = Path(__file__).with_name("ras_probe.py")


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


async def check_errors(
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
