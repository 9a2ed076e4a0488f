"""Configurations over each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast


def merge_configs(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    """Put *high* over *low*: mappings are joined, of anything else *high*'s stays unless null."""
    merged = dict(low)
    for key, value in high.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge_configs(
                cast("Mapping[str, Any]", below), cast("Mapping[str, Any]", value)
            )
        elif value is not None or key not in merged:
            merged[key] = value
    return merged
