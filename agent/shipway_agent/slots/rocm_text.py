"""What rocm-smi and amd-smi print, read into what they told of each card. Pure functions.

Both print JSON when asked, among warnings and banners; which members there are, and how they are
spelled, differs from release to release (`Card series` became `Card Series`; amd-smi put its list
into `gpu_data`), and words like `N/A` stand where there is no value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

_CARD = re.compile(r"card([0-9]{1,6})", re.IGNORECASE)
_BUS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", re.IGNORECASE)
_HEX = re.compile(r"(?:0x)?([0-9a-f]{1,16})", re.IGNORECASE)
_NOTHING = frozenset({"", "n/a", "na", "none", "null", "unknown", "not supported", "err!", "[n/a]"})
_UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_LARGEST_BYTES = 1 << 50

Members = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One AMD GPU, or a partition of one, as its vendor's program numbers it."""

    index: int
    name: str | None = None
    unique_id: str | None = None
    """As it was printed."""
    pci_bus: str | None = None
    memory_bytes: int | None = None
    problem: str | None = None
    """Why nothing was told of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one run told."""

    cards: tuple[Card, ...]
    driver: str | None = None


def read_rocm_smi(output: bytes) -> Told | None:
    """Read what `rocm-smi … --json` printed; None if there is no JSON about cards in it."""
    for document in _documents(output):
        cards = [
            _read_rocm_smi_card(int(match[1]), members)
            for key, members in _items(document)
            if (match := _CARD.fullmatch(key))
        ]
        if cards:
            driver = _pick(_members(_members(document).get("system")), "driver version")
            return Told(cards=tuple(sorted(cards, key=lambda card: card.index)), driver=driver)
    return None


def read_amd_smi(output: bytes) -> Told | None:
    """Read what `amd-smi static … --json` printed; None if there is no list of GPUs in it."""
    for document in _documents(output):
        entries = [_members(row) for row in _rows(_members(document).get("gpu_data", document))]
        cards = [
            _read_amd_smi_card(row["gpu"], row) for row in entries if _is_index(row.get("gpu"))
        ]
        if cards:
            drivers = [_pick(_members(row.get("driver")), "version") for row in entries]
            driver = next((driver for driver in drivers if driver), None)
            return Told(cards=tuple(sorted(cards, key=lambda card: card.index)), driver=driver)
    return None


def read_hex(unique_id: str) -> str | None:
    """Bring a unique id to sixteen hexadecimal digits; None if it is no such number, or zero."""
    match = _HEX.fullmatch(unique_id)
    if match is None or int(match[1], 16) == 0:
        return None
    return match[1].lower().zfill(16)


def _read_rocm_smi_card(index: int, members: Members) -> Card:
    return Card(
        index=index,
        name=_pick(members, "card series", "device name", "card model", "card vendor"),
        unique_id=_read_unique_id(_pick(members, "unique id")),
        pci_bus=_read_bus(_pick(members, "pci bus")),
        memory_bytes=_read_bytes(_pick(members, "vram total memory (b)"), 1),
    )


def _read_amd_smi_card(index: int, members: Members) -> Card:
    asic, board = _members(members.get("asic")), _members(members.get("board"))
    size = _members(_members(members.get("vram")).get("size"))
    unit = _UNITS.get(str(size.get("unit", "MB")).upper(), 0)
    return Card(
        index=index,
        name=_pick(board, "product_name") or _pick(asic, "market_name", "vendor_name"),
        unique_id=_read_unique_id(_pick(asic, "asic_serial")),
        pci_bus=_read_bus(_pick(_members(members.get("bus")), "bdf")),
        memory_bytes=_read_bytes(_pick(size, "value"), unit),
    )


def _documents(output: bytes) -> Iterator[object]:
    """Yield each JSON object or list that begins on a line of its own."""
    text = output.decode("utf-8", "replace")
    decoder = json.JSONDecoder()
    position = 0
    for line in text.splitlines(keepends=True):
        begin, position = position, position + len(line)
        if line.lstrip()[:1] not in {"{", "["}:
            continue
        try:
            document, _ = decoder.raw_decode(text, begin + len(line) - len(line.lstrip()))
        except (ValueError, RecursionError):
            continue
        yield document


def _rows(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _members(value: object) -> Members:
    return cast("Members", value) if isinstance(value, dict) else {}


def _items(document: object) -> Iterator[tuple[str, Members]]:
    for key, value in _members(document).items():
        if isinstance(value, dict):
            yield key, cast("Members", value)


def _pick(members: Members, *names: str) -> str | None:
    """Return the first of the members that has a value, in whatever case it is spelled."""
    lowered = {key.strip().rstrip(":").lower(): value for key, value in members.items()}
    for name in names:
        value = lowered.get(name)
        text = str(value).strip() if isinstance(value, (str, int, float)) else ""
        if text.lower() not in _NOTHING and not isinstance(value, bool):
            return text
    return None


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1_000_000


def _read_unique_id(text: str | None) -> str | None:
    """Take an id as it is, except for a zero, by which a driver says that there is none."""
    if text is None or (_HEX.fullmatch(text) and read_hex(text) is None):
        return None
    return text


def _read_bus(text: str | None) -> str | None:
    match = _BUS.fullmatch(text or "")
    return f"{match[1] or '0000'}:{match[2]}".lower() if match else None


def _read_bytes(text: str | None, unit: int) -> int | None:
    if text is None or not re.fullmatch(r"[0-9]{1,18}", text):
        return None
    number = int(text) * unit
    return number if 0 < number < _LARGEST_BYTES else None
