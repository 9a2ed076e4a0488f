"""What a search reads from the validation metrics of a trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from shipway_master.searchers.config import AdaptiveAshaConfig, AsyncHalvingConfig
from shipway_master.searchers.halving import WORST


def read_time(
    config: AsyncHalvingConfig | AdaptiveAshaConfig,
    metrics: Mapping[str, Any],
    *,
    steps_completed: int | None,
) -> float | None:
    """Find how far the trial is; None if that is not said."""
    time = _find_number(metrics, config.time_metric)
    if time is None and config.time_metric == "batches":
        return steps_completed
    return time


def read_value(
    config: AsyncHalvingConfig | AdaptiveAshaConfig, metrics: Mapping[str, Any]
) -> float:
    """Find how good the trial is, smaller being better."""
    value = _find_number(metrics, config.metric)
    if value is None:
        return WORST
    return value if config.smaller_is_better else -value


def explain_no_time(
    config: AsyncHalvingConfig | AdaptiveAshaConfig, metrics: Mapping[str, Any]
) -> str:
    """Tell the user what his validation metrics lack."""
    found = ", ".join(sorted(metrics)[:20]) or "none"
    return (
        f"searcher.time_metric: each validation must have a finite number '{config.time_metric}' "
        f"among its metrics, to say how far the trial is; there were: {found}"
    )


def _find_number(metrics: Mapping[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if -math.inf < value < math.inf else None
