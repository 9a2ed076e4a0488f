"""The slots as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shipway_agent.slots.slot import Detection, Slot

_WIDE = 200
"""Columns of what is not a terminal."""


def render_json(detection: Detection) -> str:
    """Write everything that is known."""
    return json.dumps(
        {
            "slots": [asdict(slot) for slot in detection.slots],
            "hidden": [asdict(slot) for slot in detection.hidden],
            "versions": dict(detection.versions),
            "notes": list(detection.notes),
        },
        indent=2,
    )


def print_table(detection: Detection) -> None:
    """Print what a person wants to see, the hidden devices and the reasons included."""
    table = Table(title=None)
    for name in ("id", "type", "brand", "uuid", "memory", "health", "checks"):
        # What people copy stays in one piece; where it is narrow, the others are folded.
        table.add_column(name, overflow="fold", no_wrap=name in {"id", "uuid"})
    for slot in detection.slots:
        table.add_row(str(slot.id), *_cells(slot), _health(slot), _checks(slot))
    for slot in detection.hidden:
        table.add_row("-", *_cells(slot), Text("hidden", style="dim"), _checks(slot))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    console.print(table)
    for name, version in detection.versions.items():
        console.print(f"{name} {version}", markup=False)
    for note in detection.notes:
        console.print(note, style="yellow", markup=False)


def _cells(slot: Slot) -> tuple[str | Text, ...]:
    memory = "not told" if slot.memory_bytes is None else f"{slot.memory_bytes / 2**30:.1f} GiB"
    return (
        slot.type,
        Text(slot.brand),
        Text(slot.uuid or "not told"),
        memory if slot.type != "cpu" else "",
    )


def _health(slot: Slot) -> Text:
    if slot.problem:
        return Text(slot.problem, style="red")
    return Text("ok", style="green") if slot.type != "cpu" else Text("")


def _checks(slot: Slot) -> Text:
    return Text("\n".join(f"{name}: {answer}" for name, answer in slot.checks.items()))
