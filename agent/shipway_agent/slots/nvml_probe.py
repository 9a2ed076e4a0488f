"""Asks NVML about every GPU and prints what it says; runs in a process of its own.

The driver's library can hang or crash whoever calls it, so the daemon never does. This program
prints one JSON line before and after each step, so that its parent knows where it stopped:

    {"step": "init"}  {"step": "count", "count": 2, "versions": {…}}  {"step": "gpu", "index": 0}
    {"gpu": {"index": 0, …}}  …  {"step": "end"}  or, for the whole driver, {"error": 9}

Whatever may be unsupported comes as {"value": …} or as {"error": 3}: what that means is decided
by the parent. Usage: nvml_probe.py [INDEX…]: GPUs that are not to be asked. It imports nothing of
ours.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

Answer = dict[str, Any]

_PR_SET_PDEATHSIG = 1


def main(skipped: set[int]) -> None:
    """Print what NVML tells of all GPUs but those of *skipped*."""
    say = _open_speech()
    # Whoever started this may be killed while the driver holds us.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nvml: Any = importlib.import_module("pynvml")  # it has no types
    probe = _Probe(nvml)
    try:
        say({"step": "init"})
        nvml.nvmlInit()
        count = int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        say({"error": int(error.value)})
        return
    say({"step": "count", "count": count, "versions": probe.read_versions()})
    for index in range(count):
        if index not in skipped:
            say({"step": "gpu", "index": index})
            say({"gpu": probe.read_gpu(index)})
    say({"step": "end"})


def _open_speech() -> Callable[[Answer], None]:
    """Keep stdout to ourselves: what a library prints goes nowhere."""
    own = os.fdopen(os.dup(1), "w", encoding="ascii")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)

    def say(line: Answer) -> None:
        # On a line of its own, whatever a library has written to descriptors it found open.
        own.write("\n" + json.dumps(line) + "\n")
        own.flush()

    return say


class _Probe:
    """Asks one thing at a time."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def read_versions(self) -> dict[str, Answer]:
        """Read the release of the driver, and the CUDA version that it can serve."""
        nvml = self._nvml
        return {
            "driver": self._ask(lambda: _as_text(nvml.nvmlSystemGetDriverVersion())),
            "cuda": self._ask(lambda: int(nvml.nvmlSystemGetCudaDriverVersion())),
        }

    def read_gpu(self, index: int) -> Answer:
        """Read one GPU; `error` says that it does not even tell who it is."""
        nvml = self._nvml
        gpu: Answer = {"index": index, "uuid": "", "name": "", "error": None}
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpu["uuid"] = self._text(nvml.nvmlDeviceGetUUID, handle)
            gpu["name"] = self._text(nvml.nvmlDeviceGetName, handle)
        except nvml.NVMLError as error:
            gpu["error"] = int(error.value)
            return gpu
        gpu["memory_bytes"] = self._memory_bytes(handle)
        gpu["pci_bus"] = self._ask(lambda: _as_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
        gpu["uncorrected_ecc"] = self._ask(
            lambda: int(
                nvml.nvmlDeviceGetTotalEccErrors(
                    handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
                )
            )
        )
        gpu["remapped_rows"] = self._ask(lambda: list(nvml.nvmlDeviceGetRemappedRows(handle)))
        gpu["retirement_pending"] = self._ask(
            lambda: int(nvml.nvmlDeviceGetRetiredPagesPendingStatus(handle))
        )
        gpu["mig_mode"] = self._ask(lambda: int(nvml.nvmlDeviceGetMigMode(handle)[0]))
        if gpu["mig_mode"].get("value") == nvml.NVML_DEVICE_MIG_ENABLE:
            gpu["instances"] = self._ask(lambda: self._read_instances(handle))
        return gpu

    def _read_instances(self, parent: Any) -> list[Answer]:
        """Read the MIG instances of one GPU; places without one are no error."""
        nvml = self._nvml
        instances: list[Answer] = []
        for place in range(int(nvml.nvmlDeviceGetMaxMigDeviceCount(parent))):
            try:
                handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, place)
            except nvml.NVMLError as error:
                if error.value in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT):
                    continue
                raise
            instances.append(self._read_instance(handle, place))
        return instances

    def _read_instance(self, handle: Any, place: int) -> Answer:
        nvml = self._nvml
        instance: Answer = {"place": place, "uuid": "", "name": "", "error": None}
        try:
            instance["uuid"] = self._text(nvml.nvmlDeviceGetUUID, handle)
            instance["name"] = self._text(nvml.nvmlDeviceGetName, handle)
        except nvml.NVMLError as error:
            instance["error"] = int(error.value)
        instance["memory_bytes"] = self._memory_bytes(handle)
        instance["gpu_instance"] = self._ask(lambda: int(nvml.nvmlDeviceGetGpuInstanceId(handle)))
        instance["compute_instance"] = self._ask(
            lambda: int(nvml.nvmlDeviceGetComputeInstanceId(handle))
        )
        return instance

    def _memory_bytes(self, handle: Any) -> Answer:
        return self._ask(lambda: int(self._nvml.nvmlDeviceGetMemoryInfo(handle).total))

    def _ask(self, ask: Callable[[], Any]) -> Answer:
        """Ask for what a GPU or a driver may not have."""
        try:
            return {"value": ask()}
        except self._nvml.NVMLError as error:
            return {"error": int(error.value)}
        except UnicodeDecodeError as error:
            return {"value": error.object.decode("utf-8", "replace")}

    @staticmethod
    def _text(ask: Callable[[Any], Any], handle: Any) -> str:
        """Ask for a string that may hold anything, although the binding expects UTF-8."""
        try:
            return _as_text(ask(handle))
        except UnicodeDecodeError as error:
            return error.object.decode("utf-8", "replace")


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    main({int(argument) for argument in sys.argv[1:]})
