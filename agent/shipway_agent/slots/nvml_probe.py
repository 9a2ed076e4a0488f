"""Asks NVML about every GPU and prints what it says; runs in a process of its own.

The driver's library can hang or crash whoever calls it, so the daemon never does. This program
prints one JSON line before and after each step, so that its parent knows where it stopped:

    {"step": "init"}  {"step": "count", "count": 2}  {"step": "gpu", "index": 0}
    {"gpu": {"index": 0, …}}  …  {"step": "end"}  or, for the whole driver, {"error": 9}

Usage: nvml_probe.py [INDEX…]: GPUs that are not to be asked. It imports nothing of ours.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

nvml: Any = importlib.import_module("pynvml")  # it has no types

_NOT_SUPPORTED = (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND)
_HIDDEN = nvml.NVML_ERROR_NO_PERMISSION


def main(skipped: set[int]) -> None:
    """Print what NVML tells of all GPUs but those of *skipped*."""
    try:
        _say({"step": "init"})
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        _say({"error": int(error.value)})
        return
    _say({"step": "count", "count": count})
    for index in range(count):
        if index not in skipped:
            _say({"step": "gpu", "index": index})
            _say({"gpu": _read_gpu(index)})
    _say({"step": "end"})


def _say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _read_gpu(index: int) -> dict[str, Any]:
    """Read one GPU; `error` is the first number that says it is not fit for use."""
    gpu: dict[str, Any] = {"index": index, "uuid": "", "name": "", "error": None, "instances": []}
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        gpu["uuid"] = _text(nvml.nvmlDeviceGetUUID, handle)
        gpu["name"] = _text(nvml.nvmlDeviceGetName, handle)
        gpu["memory_bytes"] = _memory_bytes(handle)
        gpu["pci_bus"] = _optional(lambda: _pci_bus(handle))
        remapping = _optional(lambda: nvml.nvmlDeviceGetRemappedRows(handle))
        gpu["remapping_failed"] = bool(remapping and remapping[3])
        mig_mode = _optional(lambda: nvml.nvmlDeviceGetMigMode(handle))
        gpu["mig"] = bool(mig_mode and mig_mode[0] == nvml.NVML_DEVICE_MIG_ENABLE)
        if gpu["mig"]:
            gpu["instances"] = _read_instances(handle)
    except nvml.NVMLError as error:
        gpu["error"] = int(error.value)
    return gpu


def _read_instances(parent: Any) -> list[dict[str, Any]]:
    """Read the MIG instances of one GPU; places without one are no error."""
    instances: list[dict[str, Any]] = []
    for place in range(int(nvml.nvmlDeviceGetMaxMigDeviceCount(parent))):
        try:
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, place)
        except nvml.NVMLError as error:
            if error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT):
                continue
            raise
        instance: dict[str, Any] = {"uuid": "", "name": "", "error": None}
        try:
            instance["uuid"] = _text(nvml.nvmlDeviceGetUUID, handle)
            instance["name"] = _text(nvml.nvmlDeviceGetName, handle)
            instance["memory_bytes"] = _memory_bytes(handle)
        except nvml.NVMLError as error:
            instance["error"] = int(error.value)
        instances.append(instance)
    return instances


def _memory_bytes(handle: Any) -> int | None:
    total: int | None = _optional(lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total))
    return total


def _pci_bus(handle: Any) -> str:
    bus = nvml.nvmlDeviceGetPciInfo(handle).busId
    return bus.decode("ascii", "replace") if isinstance(bus, bytes) else str(bus)


def _text(ask: Callable[[Any], Any], handle: Any) -> str:
    """Ask for a string that may hold anything, although the binding expects UTF-8."""
    try:
        return str(ask(handle))
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "replace")


def _optional(ask: Callable[[], Any]) -> Any:
    """Ask for what a GPU or a driver may not have; None then, but not for a failure."""
    try:
        return ask()
    except nvml.NVMLError as error:
        if error.value in _NOT_SUPPORTED or error.value == _HIDDEN:
            return None
        raise


if __name__ == "__main__":
    main({int(argument) for argument in sys.argv[1:]})
