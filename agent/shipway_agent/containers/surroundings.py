"""What all containers of an agent share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shipway_agent.containers.records import RecordStore
from shipway_agent.containers.reports import Reports
from shipway_agent.logs.routes import LogRoutes
from shipway_agent.runtimes.spec import Runtime
from shipway_common.backoff import backoff_delays_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Patience with runtimes, in seconds."""

    drain_s: float = 15
    """How long the output of an ended container may bring nothing before it is left."""
    devices_s: float = 60
    """How long a container waits for the one that had its devices to be gone."""
    first_retry_s: float = 0.5
    longest_retry_s: float = 15
    removal_tries: int = 6

    def delays(self) -> Iterator[float]:
        """Return how long to wait before each next try."""
        return backoff_delays_s(first_s=self.first_retry_s, limit_s=self.longest_retry_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The parts a container's life needs."""

    runtime: Runtime
    reports: Reports
    records: RecordStore
    limits: Limits
    log_routes: LogRoutes | None = None
    """Where output goes by the tasks' own tokens; None: all by the websocket."""
    keeps_ended: bool = False
    """Leave ended containers in the runtime, for people to look at."""
