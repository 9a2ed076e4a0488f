"""How far an engine is with an image, from the stream of what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shipway_agent.runtimes.spec import Event, EventKind

_BAR_COLUMNS = 40
_MEGABYTE = 1_000_000


@dataclass(slots=True)
class _Layer:
    size_bytes: int = 0
    downloaded_bytes: int = 0
    extracted_bytes: int = 0
    is_complete: bool = False

    @property
    def fraction(self) -> float:
        if self.is_complete:
            return 1.0
        if self.size_bytes <= 0:
            return 0.0
        done_bytes = self.downloaded_bytes + self.extracted_bytes
        return min(1.0, done_bytes / (2 * self.size_bytes))

    def complete(self) -> None:
        self.downloaded_bytes = self.extracted_bytes = self.size_bytes
        self.is_complete = True


class PullProgress:
    """Adds up what an engine says of an image's layers."""

    def __init__(
        self, *, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Give an event every *interval_s* seconds at most."""
        self._layers: dict[str, _Layer] = {}
        self._interval_s = interval_s
        self._clock = clock
        self._told_at: float | None = None

    def update(self, message: Mapping[str, Any]) -> Event | None:
        """Take in one message; the event to give, if it is time for one."""
        layer_id = str(message.get("id") or "")
        status = str(message.get("status") or "")
        detail: Mapping[str, Any] = message.get("progressDetail") or {}
        if not layer_id or not self._take(layer_id, status, detail):
            return None
        now = self._clock()
        if self._told_at is not None and now - self._told_at < self._interval_s:
            return None
        self._told_at = now
        return self.event()

    def finish(self) -> Event:
        """Return the last event: the engine has all of it, though Podman tells that of no layer."""
        for layer in self._layers.values():
            layer.complete()
        return self.event()

    def event(self) -> Event:
        """Return how far it is now."""
        layers = self._layers.values()
        fraction = sum(layer.fraction for layer in layers) / len(layers) if layers else 0.0
        downloaded = sum(layer.downloaded_bytes for layer in layers) / _MEGABYTE
        extracted = sum(layer.extracted_bytes for layer in layers) / _MEGABYTE
        filled = int(fraction * _BAR_COLUMNS)
        bar = "=" * filled + (">" if 0 < filled < _BAR_COLUMNS else "")
        text = (
            f"[{bar:<{_BAR_COLUMNS}}] Downloaded: {downloaded:.1f}MB, Extracted {extracted:.1f}MB"
        )
        return Event(kind=EventKind.PULL_PROGRESS, text=text, fraction=fraction)

    def _take(self, layer_id: str, status: str, detail: Mapping[str, Any]) -> bool:
        """Note what a message says of a layer; False if it says nothing of one."""
        if status in {"Pulling fs layer", "Waiting"}:
            self._layers.setdefault(layer_id, _Layer())
            return True
        if status not in {"Downloading", "Download complete", "Extracting", "Pull complete"}:
            return False
        layer = self._layers.setdefault(layer_id, _Layer())
        current, total = detail.get("current"), detail.get("total")
        if isinstance(total, int) and total > 0:
            layer.size_bytes = max(layer.size_bytes, total)
        if status == "Downloading" and isinstance(current, int):
            layer.downloaded_bytes = current
        if status == "Extracting" and isinstance(current, int):
            layer.downloaded_bytes = max(layer.downloaded_bytes, layer.size_bytes)
            layer.extracted_bytes = current
        if status == "Download complete":
            layer.downloaded_bytes = max(layer.downloaded_bytes, layer.size_bytes)
        if status == "Pull complete":
            layer.complete()
        return True
