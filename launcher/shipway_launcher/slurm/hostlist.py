"""Slurm's short form for lists of nodes."""

from __future__ import annotations

import re
from typing import cast

import hostlist  # pyright: ignore[reportMissingTypeStubs] (it has none)

_NOTHING = {"", "(null)", "none assigned", "n/a"}
_ITEM = re.compile(r"[A-Za-z0-9_.-]*(?:\[[0-9,-]+\][A-Za-z0-9_-]*)*")


def expand_nodes(text: str) -> list[str]:
    """Expand `n[01-03,07],m1` to the names of the nodes, in their order.

    Raises:
        ValueError: Slurm would not accept this list either.
    """
    if text.strip().lower() in _NOTHING:
        return []
    names: list[str] = []
    for item in _split(text.strip()):
        if not item or not _ITEM.fullmatch(item) or re.search(r"\][^\[]*\.", item):
            raise ValueError(f"{text[:200]!r} is no list of nodes")
        try:
            names += cast("list[str]", hostlist.expand_hostlist(item))  # pyright: ignore[reportUnknownMemberType]
        except hostlist.BadHostlist as error:
            raise ValueError(f"{text[:200]!r} is no list of nodes: {error}") from error
    return list(dict.fromkeys(names))


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    return re.split(r",(?![^\[]*\])", text)
