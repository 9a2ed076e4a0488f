"""Which of the found devices may be offered: by the setting, or by the vendors' variables.

Pure functions. The setting is strict, since a typo in it should not pass for a smaller machine; the
variables follow the rules of those who invented them, since a job scheduler wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from shipway_agent.slots.slot import Slot

_INTEGER = re.compile(r"[ \t]*([+-]?[0-9]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which devices were chosen, by their positions in the list."""

    positions: Collection[int]
    notes: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])
    """Names that name nothing here."""


def choose_by_setting(slots: Sequence[Slot], names: str) -> Choice:
    """Choose what the setting `visible_gpus` names; all if it names nothing, or `all`.

    A name is an index, a UUID or the beginning of one, another name that the vendor's programs
    take, or a PCI address. That of a partitioned GPU means all of its partitions.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted or wanted == ["all"]:
        return Choice(positions=range(len(slots)))
    chosen: set[int] = set()
    unknown: list[str] = []
    for name in wanted:
        named = _find_named(slots, name)
        chosen.update(named)
        if not named:
            unknown.append(name)
    return Choice(positions=chosen, unknown=unknown)


def choose_by_cuda(slots: Sequence[Slot], value: str, variable: str) -> Choice:
    """Choose as CUDA reads CUDA_VISIBLE_DEVICES.

    The first entry decides whether the list is of indices, of `GPU-…` or of `MIG-…`; the list ends
    at the first entry that is none of these or names nothing; a device named twice makes it empty;
    an empty one hides all. Of an index only the leading digits count.
    """
    entries = value.split(",")
    kind = next((kind for kind in ("GPU-", "MIG-") if entries[0].strip().startswith(kind)), None)

    def find(entry: str) -> list[int]:
        if kind is None:
            return _find_index(slots, entry)
        name = entry.strip()
        return _find_beginning(slots, name) if name.startswith(kind) else []

    chosen: list[list[int]] = []
    notes: list[str] = []
    for entry in entries:
        named = find(entry)
        if named and named in chosen:
            notes.append(f"{variable}: {entry.strip()} is named twice, so that CUDA would see none")
            return Choice(positions=(), notes=notes)
        if named:
            chosen.append(named)
        elif kind is not None and _may_be_mute(slots, entry.strip()):
            notes.append(f"{variable}: {entry.strip()} is not found; a GPU tells no UUID")
        else:
            notes += _note_end(variable, entry, value)
            break
    return Choice(positions={place for named in chosen for place in named}, notes=notes)


def choose_by_rocr(slots: Sequence[Slot], value: str, variable: str) -> Choice:
    """Choose as the ROCm runtime reads ROCR_VISIBLE_DEVICES.

    Entries are indices in any C notation and `GPU-` with the unique id in hexadecimal digits, or
    with its beginning. The list ends at the first entry that names nothing, several or one again.
    """
    chosen: set[int] = set()
    notes: list[str] = []
    for entry in value.split(","):
        token = entry.strip().upper()
        named = _find_rocr_uuid(slots, token) if token.startswith("G") else _find_c(slots, token)
        if len(named) != 1 or named[0] in chosen:
            notes += _note_end(variable, entry, value)
            break
        chosen.update(named)
    return Choice(positions=chosen, notes=notes)


def choose_by_nvidia(slots: Sequence[Slot], value: str, variable: str) -> Choice:
    """Choose as NVIDIA's container tools read NVIDIA_VISIBLE_DEVICES.

    `all` is all; `none`, `void` and nothing are none. In a container the tools have already left
    out the other devices and counted the rest anew, so the list counts only where it is shorter
    than what is here.
    """
    words = [word.strip() for word in value.split(",")]
    if words == ["all"]:
        return Choice(positions=range(len(slots)))
    if value.strip() in {"", "none", "void"}:
        return Choice(positions=())
    gpus = {slot.gpu_index for slot in slots}
    if len(set(words)) >= (len(slots) if ":" in value or "MIG-" in value else len(gpus)):
        return Choice(positions=range(len(slots)))
    choice = choose_by_setting(slots, value)
    notes = [f"{variable}: {name} names no GPU here" for name in choice.unknown]
    return Choice(positions=choice.positions, notes=notes)


def _note_end(variable: str, entry: str, value: str) -> list[str]:
    if entry.strip() in {"", "-1"} and value.strip() in {"", "-1"}:
        return []  # said on purpose, and told by whoever finds nothing left
    return [f"{variable}: the list ends at {entry.strip()!r}, which names no device here"]


def _find_named(slots: Sequence[Slot], name: str) -> list[int]:
    lowered = name.lower()
    bus = _short_bus(lowered)
    exact = [
        position
        for position, slot in enumerate(slots)
        if lowered in {own.lower() for own in _names_of(slot)}
        or (bus is not None and bus == _short_bus((slot.pci_bus or "").lower()))
    ]
    if exact or not lowered.startswith(("gpu-", "mig-")):
        return exact
    return _find_beginning(slots, name)


def _names_of(slot: Slot) -> list[str]:
    names = [slot.uuid, slot.parent_uuid, *slot.aliases]
    return [str(slot.gpu_index), *(name for name in names if name)]


def _find_beginning(slots: Sequence[Slot], beginning: str) -> list[int]:
    """Find the one device whose name begins so; a partitioned one is all of its parts."""
    lowered = beginning.lower()
    if len(lowered) <= len("GPU-"):
        return []
    whole: dict[str, set[int]] = {}
    found: dict[str, set[int]] = {}
    for position, slot in enumerate(slots):
        for name in _names_of(slot):
            if name.lower().startswith(lowered):
                device = name if name == slot.parent_uuid else slot.uuid
                found.setdefault(device, set()).add(position)
                if len(name) == len(beginning):
                    whole.setdefault(device, set()).add(position)
    matches = whole or found
    return sorted(next(iter(matches.values()))) if len(matches) == 1 else []


def _find_index(slots: Sequence[Slot], entry: str) -> list[int]:
    match = _INTEGER.match(entry)
    if match is None:
        return []
    index = int(match[1])
    return [position for position, slot in enumerate(slots) if slot.gpu_index == index]


def _find_c(slots: Sequence[Slot], token: str) -> list[int]:
    """Read a whole number as C's strtol does with base 0, and take it for a position."""
    if not re.fullmatch(r"[+-]?(0X[0-9A-F]+|0[0-7]*|[1-9][0-9]*)", token):
        return []
    digits = token.lstrip("+-")
    base = 16 if digits.startswith("0X") else 8 if digits.startswith("0") else 10
    number = int(token, base)
    return [number] if 0 <= number < len(slots) else []


def _find_rocr_uuid(slots: Sequence[Slot], token: str) -> list[int]:
    if not len("GPU-") < len(token) <= len("GPU-") + 16:
        return []
    return [
        position
        for position, slot in enumerate(slots)
        if any(name.upper().startswith(token) for name in slot.aliases)
    ]


def _may_be_mute(slots: Sequence[Slot], name: str) -> bool:
    """Say whether *name*, which looks like a UUID, may be that of a device that tells none."""
    return name.startswith(("GPU-", "MIG-")) and any(not slot.uuid for slot in slots)


def _short_bus(address: str) -> str | None:
    """Bring 00000000:c1:00.0, 0000:c1:00.0 and c1:00.0 to one spelling."""
    found = re.fullmatch(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", address)
    return f"{int(found[1] or '0', 16):x}:{found[2]}" if found else None
