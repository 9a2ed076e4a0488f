"""The machine's processors as one slot."""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections import Counter
from pathlib import Path

from shipway_agent.slots.slot import Slot


def read_cpu(*, agent_id: str, root: Path) -> Slot:
    """Describe the processors as one slot; the same on each call, and on no other machine.

    Args:
        root: Where /proc and /etc are.
    """
    try:
        text = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return Slot(id=0, type="cpu", brand=parse_brand(text), uuid=_identity(agent_id, root))


def parse_brand(cpuinfo: str) -> str:
    """Name the models in /proc/cpuinfo and how many logical processors each has, sorted."""
    fields = [
        (name.strip(), value.strip())
        for name, _, value in (line.partition(":") for line in cpuinfo.splitlines())
    ]
    models = Counter(value for name, value in fields if name == "model name" and value)
    if not models:
        number = sum(1 for name, value in fields if name == "processor" and value.isdigit())
        models[f"{platform.machine()} processor"] = max(number, 1)
    return ", ".join(f"{model} x {number} cores" for model, number in sorted(models.items()))


def _identity(agent_id: str, root: Path) -> str:
    """Make an id of the machine's, which itself is not to be shown to others (machine-id(5))."""
    try:
        machine = (root / "etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        machine = ""
    digest = hashlib.sha256(f"shipway cpu slot\0{machine}\0{agent_id}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))
