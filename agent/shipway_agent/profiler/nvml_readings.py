"""Reads GPUs through NVML once a second and prints it; runs in a process of its own.

The driver's library can hang or crash whoever calls it, so the agent never does. One JSON line
before each device, so that the parent knows which one hangs, and one with what it told:

    {"asking": "0"}  {"gpu": "0", "uuid": "GPU-1…", "gpu_util": 7, "gpu_free_memory": 4294967296}  …

A number that the device does not tell is left out. `{"error": 9}` ends it: NVML does not work.

Usage: nvml_readings.py SECONDS DEVICE…: indexes or UUIDs. It imports nothing of ours, and ends
with its parent, whose end of stdin it watches.
"""

from __future__ import annotations

import importlib
import json
import select
import sys
from collections.abc import Callable, Sequence
from typing import Any

nvml: Any = importlib.import_module("pynvml")  # it has no types


def main(interval_s: float, names: Sequence[str]) -> None:
    """Print readings until the parent has gone."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        _say({"error": int(error.value)})
        return
    while True:
        for name in names:
            _say({"asking": name})
            # Asked anew each time: a device that was lost and reset has another handle.
            handle = _told(_handle, name)
            uuid = None if handle is None else _told(nvml.nvmlDeviceGetUUID, handle)
            _say({"gpu": name} if uuid is None else {"gpu": name, "uuid": uuid, **_read(handle)})
        if select.select([sys.stdin], [], [], interval_s)[0]:
            return


def _handle(name: str) -> Any:
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name.encode())


def _read(handle: Any) -> dict[str, int]:
    readings: dict[str, int] = {}
    rates = _told(nvml.nvmlDeviceGetUtilizationRates, handle)
    if rates is not None and int(rates.gpu) <= 100:
        readings["gpu_util"] = int(rates.gpu)
    memory = _told(nvml.nvmlDeviceGetMemoryInfo, handle)
    if memory is not None and int(memory.free) <= int(memory.total):
        readings["gpu_free_memory"] = int(memory.free)
    return readings


def _told(ask: Callable[[Any], Any], about: Any) -> Any:
    """Ask NVML; None if it does not tell."""
    try:
        return ask(about)
    except nvml.NVMLError:
        return None


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
