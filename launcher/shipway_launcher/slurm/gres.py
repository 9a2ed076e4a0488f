"""Count GPUs in Slurm's texts about generic and trackable resources."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_NOTHING = {"", "(null)", "n/a", "none"}
_ITEM = re.compile(r"(?:gres[:/])?gpu(?P<rest>(?:[:=][^:=]+)*)")
_MULTIPLES = {"": 1, "k": 1024, "m": 1024**2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """How many GPUs, and of which types as far as they have names."""

    total: int = 0
    by_type: dict[str, int] = field(default_factory=dict[str, int])


@functools.lru_cache(1024)
def parse_gpus(text: str) -> Gpus | None:
    """Count the GPUs in texts such as `gpu:a100:4(S:0-1)`, `gres:gpu:2`, `cpu=1,gres/gpu=3`.

    None: there is an entry about GPUs whose number cannot be read.
    """
    if text.strip().lower() in _NOTHING:
        return Gpus()
    by_type: dict[str, int] = {}
    untyped = 0
    is_total = False
    for item in _split(text):
        match = _ITEM.fullmatch(item)
        if match is None:
            continue
        read = _parse_rest(match.group("rest"))
        if read is None:
            return None
        kind, count = read
        if kind:
            by_type[kind] = by_type.get(kind, 0) + count
        else:
            untyped += count
            # With "=" it is a list of trackable resources: there the plain entry is the sum.
            is_total = is_total or "=" in item
    total = untyped if is_total else untyped + sum(by_type.values())
    return Gpus(total=total, by_type=by_type)


def add_gpus(several: Iterable[Gpus]) -> Gpus:
    """Add up."""
    total = 0
    by_type: dict[str, int] = {}
    for gpus in several:
        total += gpus.total
        for kind, count in gpus.by_type.items():
            by_type[kind] = by_type.get(kind, 0) + count
    return Gpus(total=total, by_type=by_type)


def _split(text: str) -> list[str]:
    """Split at commas, leaving out what is in brackets: `gpu:8(S:0-1,4)` is one entry."""
    return [item.strip() for item in re.sub(r"\([^)]*\)", "", text).split(",")]


def _parse_rest(rest: str) -> tuple[str, int] | None:
    parts = re.split(r"[:=]", rest)[1:]
    if len(parts) == 2:
        count = _parse_count(parts[1])
        return None if count is None else (parts[0], count)
    if len(parts) == 1:
        count = _parse_count(parts[0])
        return (parts[0], 1) if count is None else ("", count)
    return ("", 1) if not parts else None


def _parse_count(text: str) -> int | None:
    match = re.fullmatch(r"(\d+)([kKmM]?)", text)
    return int(match.group(1)) * _MULTIPLES[match.group(2).lower()] if match else None
