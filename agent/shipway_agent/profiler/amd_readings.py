"""Reads AMD GPUs from their driver's files whenever it is asked to; runs in a process of its own.

A file of a card that is ill may not answer at all, so the agent never reads one. Questions, answers
and DESCRIPTOR are those of nvml_readings.py; a number that a card does not tell is left out.

Usage: amd_readings.py DESCRIPTOR CARDS: a JSON list of objects with `index`, `uuid`, `name` and
`folder`, the card's own below /sys. It imports nothing of ours, and ends with its standard input.
"""

from __future__ import annotations

import glob
import json
import mmap
import os
import struct
import sys
from typing import Any

_HOTTEST_CELSIUS = 200
_MOST_WATTS = 10_000
_first_of = {
    # The edge of the chip, or what cards without that sensor have in its place.
    "temperature": (("temp1_input", "temp2_input"), 1000, _HOTTEST_CELSIUS),
    "power": (("power1_average", "power1_input"), 1_000_000, _MOST_WATTS),
}


def main(descriptor: int, cards: list[dict[str, Any]]) -> None:
    """Answer until the parent has gone."""
    mark = mmap.mmap(descriptor, 4)
    for line in sys.stdin:
        skipped = {int(word) for word in line.split()}
        gpus: list[dict[str, Any]] = []
        for card in cards:
            if card["index"] in skipped:
                continue
            struct.pack_into("=I", mark, 0, card["index"] + 1)
            folder = card["folder"]
            if os.path.isdir(folder):
                known = {name: card[name] for name in ("index", "uuid", "name")}
                gpus.append(known | _read(folder))
        struct.pack_into("=I", mark, 0, 0)
        sys.stdout.write(json.dumps({"gpus": gpus}) + "\n")
        sys.stdout.flush()


def _read(folder: str) -> dict[str, float]:
    numbers: dict[str, float] = {}
    busy = _find_number(f"{folder}/gpu_busy_percent")
    if busy is not None and busy <= 100:
        numbers["utilization"] = busy
    total = _find_number(f"{folder}/mem_info_vram_total")
    used = _find_number(f"{folder}/mem_info_vram_used")
    if total and used is not None and used <= total:
        numbers |= {"memory_total": total, "memory_used": used, "memory_free": total - used}
    for sensors in sorted(glob.glob(f"{glob.escape(folder)}/hwmon/hwmon*")):
        for name, (files, divisor, most) in _first_of.items():
            found = [
                number
                for file in files
                if (number := _find_number(f"{sensors}/{file}")) is not None
            ]
            if found and found[0] / divisor <= most:
                numbers[name] = found[0] / divisor
    return numbers


def _find_number(path: str) -> int | None:
    try:
        with open(path, "rb") as file:
            text = file.read(64).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
