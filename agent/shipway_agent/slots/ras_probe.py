"""Reads the counts of memory and logic errors that the AMD driver keeps; a process of its own.

The driver asks the hardware when these files are read, so that a read may hang. One JSON line for
each card that was asked for, {"bus": "0000:c1:00.0", "there": true, "uncorrected": {"umc": 0}}; a
block is null if its file cannot be read, and a card without such files has none.

Usage: ras_probe.py FOLDER BUS…, where FOLDER is that of the PCI devices. It imports nothing of
ours.
"""

from __future__ import annotations

import ctypes
import json
import re
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def main(folder: Path, buses: list[str]) -> None:
    """Print what the files of each card say."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for bus in buses:
        card = folder / bus
        if not card.exists():  # a partition is counted in the function, and is no PCI device
            card = card.with_name(f"{bus.rpartition('.')[0]}.0")
        counts = {
            file.name.removesuffix("_err_count"): _read_uncorrected(file)
            for file in sorted((card / "ras").glob("*_err_count"))
        }
        told = {"bus": bus, "there": card.exists(), "uncorrected": counts}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _read_uncorrected(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    match = re.search(r"^ue: *([0-9]{1,18})$", text, re.MULTILINE)
    return int(match[1]) if match else None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
