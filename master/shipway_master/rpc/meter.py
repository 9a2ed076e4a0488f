"""How often each RPC is called, how it ends, and how long it takes; as Prometheus metrics."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from shipway_master.errors import ANSWERS, MasterError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CallMeter:
    """Counts calls; `registry` has the metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "shipway_master_calls",
            "RPCs that have ended, over gRPC and REST, by the reason of their status.",
            ("rpc", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "shipway_master_call_seconds",
            "How long unary RPCs took that wait for nothing to happen.",
            ("rpc",),
            buckets=_SECONDS,
            registry=self.registry,
        )

    @contextmanager
    def measuring(self, rpc: str, *, is_timed: bool) -> Generator[None]:
        """Count the call that the block is; its time only with *is_timed*."""
        began = time.perf_counter()
        status = "Canceled"
        try:
            yield
            status = "OK"
        except MasterError as error:
            status = ANSWERS[error.code].reason
            raise
        finally:
            self._calls.labels(rpc, status).inc()
            if is_timed:
                self._seconds.labels(rpc).observe(time.perf_counter() - began)
