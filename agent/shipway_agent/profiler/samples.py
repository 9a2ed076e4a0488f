"""Readings on their way to the master: series with their times, within a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from shipway_agent.profiler.readings import Readings, Series


class Sample(NamedTuple):
    """One number and when it was read."""

    series: Series
    time: datetime
    value: float


class Samples:
    """What was read and is not posted; the oldest go when the master is away for long."""

    def __init__(self, *, limit: int) -> None:
        self._waiting: deque[Sample] = deque(maxlen=limit)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, readings: Readings, time: datetime) -> None:
        """Keep readings of one moment."""
        self._waiting.extend(Sample(series, time, value) for series, value in readings.items())

    def take(self, count: int) -> list[Sample]:
        """Take out the oldest, *count* at most."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def put_back(self, samples: list[Sample]) -> None:
        """Put what could not be posted before all else, as far as there is room for it."""
        room = (self._waiting.maxlen or 0) - len(self._waiting)
        self._waiting.extendleft(reversed(samples[-room:] if room else []))


def metrics_request(samples: list[Sample], *, trial_id: int, agent_id: str) -> dict[str, Any]:
    """Make the body of `POST /api/v1/trials/profiler/metrics`: one batch for each series."""
    by_series: dict[Series, list[Sample]] = {}
    for sample in samples:
        by_series.setdefault(sample.series, []).append(sample)
    return {
        "batches": [
            {
                "values": [sample.value for sample in of_one],
                "batches": [0] * len(of_one),  # a training step, which only the task knows
                "timestamps": [_rfc3339(sample.time) for sample in of_one],
                "labels": _labels(series, trial_id, agent_id),
            }
            for series, of_one in by_series.items()
        ]
    }


def _labels(series: Series, trial_id: int, agent_id: str) -> Mapping[str, Any]:
    return {
        "trialId": trial_id,
        "name": series.name,
        "agentId": agent_id,
        "gpuUuid": series.gpu_uuid,
        "metricType": "PROFILER_METRIC_TYPE_SYSTEM",
    }


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
