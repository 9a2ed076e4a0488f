"""Reads all GPUs through NVML whenever it is asked to; runs in a process of its own.

The driver's library can hang or crash whoever calls it, so the agent never does. Each line on
standard input, the indexes of GPUs to leave alone, is answered by one line of JSON:

    {"gpus": [{"index": 0, "uuid": "GPU-1…", "utilization": 7, …}, …]}

A number that a device does not tell is left out; a MIG instance follows its GPU and names it as its
`parent`. `{"error": 9}` ends it: NVML does not work, or none of the GPUs answers.

Usage: nvml_readings.py DESCRIPTOR: of four bytes in memory that always say which GPU is being asked,
by its index + 1, so that the parent knows who hangs. It imports nothing of ours, and ends with its
standard input.
"""

from __future__ import annotations

import importlib
import json
import mmap
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

nvml: Any = importlib.import_module("pynvml")  # it has no types

_REOPEN_S = 60.0
"""How often the driver is opened anew while a GPU does not answer: only so does it come back."""
_HOTTEST_CELSIUS = 200
_MOST_MILLIWATTS = 10_000_000


def main(descriptor: int) -> None:
    """Answer until the parent has gone."""
    mark = mmap.mmap(descriptor, 4)
    try:
        nvml.nvmlInit()
        opened_s = time.monotonic()
        for line in sys.stdin:
            gpus, problem = _read_all({int(word) for word in line.split()}, mark)
            if problem is not None and not gpus:
                _say({"error": problem})
                return
            _say({"gpus": gpus})
            if problem is not None and time.monotonic() - opened_s > _REOPEN_S:
                nvml.nvmlShutdown()
                nvml.nvmlInit()
                opened_s = time.monotonic()
    except nvml.NVMLError as error:
        _say({"error": int(error.value)})


def _read_all(skipped: set[int], mark: mmap.mmap) -> tuple[list[dict[str, Any]], int | None]:
    """Read all GPUs; also returns the status of one that did not answer."""
    gpus: list[dict[str, Any]] = []
    problem: int | None = None
    for index in range(int(nvml.nvmlDeviceGetCount())):
        if index in skipped:
            continue
        struct.pack_into("=I", mark, 0, index + 1)
        try:
            # Asked anew each time: a GPU that was lost and reset has another handle.
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpus += _read_gpu(index, handle)
        except nvml.NVMLError as error:
            problem = int(error.value)
    struct.pack_into("=I", mark, 0, 0)
    return gpus, problem


def _read_gpu(index: int, handle: Any) -> Iterator[dict[str, Any]]:
    uuid = _text(nvml.nvmlDeviceGetUUID(handle))
    whole = {"index": index, "uuid": uuid, "name": _told(nvml.nvmlDeviceGetName, handle)}
    mig_mode = _told(nvml.nvmlDeviceGetMigMode, handle)
    is_partitioned = mig_mode is not None and mig_mode[0] == nvml.NVML_DEVICE_MIG_ENABLE
    yield whole | _memory(handle) | _activity(handle)
    for place in range(_told(nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        if not is_partitioned:
            return
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
            own = _text(nvml.nvmlDeviceGetUUID(instance))
        except nvml.NVMLError:  # there is none at this place
            continue
        name = _told(nvml.nvmlDeviceGetName, instance)
        # What the chip does as a whole is not the instance's.
        yield {"index": index, "uuid": own, "parent": uuid, "name": name} | _memory(instance)


def _activity(handle: Any) -> dict[str, float]:
    numbers: dict[str, float] = {}
    rates = _told(nvml.nvmlDeviceGetUtilizationRates, handle)
    if rates is not None and int(rates.gpu) <= 100:
        numbers["utilization"] = int(rates.gpu)
    celsius = _told(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    if celsius is not None and int(celsius) <= _HOTTEST_CELSIUS:
        numbers["temperature"] = int(celsius)
    milliwatts = _told(nvml.nvmlDeviceGetPowerUsage, handle)
    if milliwatts is not None and int(milliwatts) <= _MOST_MILLIWATTS:
        numbers["power"] = int(milliwatts) / 1000
    return numbers


def _memory(handle: Any) -> dict[str, float]:
    memory = _told(nvml.nvmlDeviceGetMemoryInfo, handle)
    if memory is None or not 0 < int(memory.total) >= max(int(memory.used), int(memory.free)):
        return {}
    return {
        "memory_total": int(memory.total),
        "memory_used": int(memory.used),
        "memory_free": int(memory.free),
    }


def _told(ask: Callable[..., Any], *about: Any) -> Any:
    """Ask NVML; None if it does not tell, or a text that is no UTF-8."""
    try:
        return ask(*about)
    except (nvml.NVMLError, UnicodeDecodeError):
        return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
