"""NVIDIA GPUs and their MIG instances, asked through NVML by a helper process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.slot import Detection, Slot

_helper = Path(__file__).with_name("nvml_probe.py")
_LINE_LIMIT = 1 << 20

LIBRARY_NOT_FOUND = 12
DRIVER_NOT_LOADED = 9

_meanings: Mapping[int, str] = {
    4: "no permission: the agent's user must be allowed to open /dev/nvidiactl and /dev/nvidia*",
    DRIVER_NOT_LOADED: "the kernel module is not loaded: try `modprobe nvidia`, or reboot",
    10: "the driver ran into its own time limit",
    11: "an interrupt of the GPU is stuck",
    LIBRARY_NOT_FOUND: "libnvidia-ml.so.1 is not installed: install the driver's library, or, in a"
    " container, start it with the GPUs",
    13: "the driver is too old",
    14: "the GPU's inforom is damaged",
    15: "the GPU is lost (fell off the bus): reboot, and look at its power and seating",
    16: "the GPU must be reset",
    18: "library and kernel module are of different driver releases: reboot, or reload the module",
    23: "the driver is out of resources",
    999: "the driver says only that something failed: look for NVRM lines in dmesg",
}


def describe_error(number: int) -> str:
    """Say what an NVML status means and what to do about it."""
    return f"NVML error {number}: {_meanings.get(number, 'see nvml.h')}"


class NvmlFailed(SlotsUnknown):
    """NVML as a whole does not work."""

    def __init__(self, message: str, *, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number
        """NVML's status; None if the helper did not get as far."""


@dataclass(slots=True)
class _Survey:
    """What the helpers told so far."""

    count: int | None = None
    gpus: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    ended: bool = False
    asked: int | None = None
    """The GPU that was asked last."""


async def read_gpus(*, environ: Mapping[str, str], timeout_s: float) -> list[Slot]:
    """Ask NVML about all GPUs; MIG instances take the place of their GPU.

    A GPU that hangs or crashes the helper is left out on the next try, so that it cannot hide the
    others; it is in the result, with its problem and without a UUID.

    Args:
        timeout_s: Limit for each step of the helper; the whole takes at most six of it.

    Raises:
        NvmlFailed: The library is missing, or none of the GPUs could be asked.
    """
    survey = _Survey()
    loop = asyncio.get_running_loop()
    end = loop.time() + 6 * timeout_s
    while not survey.ended:
        survey.asked = None
        stopped = await _run_helper(survey, environ=environ, timeout_s=timeout_s)
        if survey.ended:
            break
        if survey.count is None:
            raise NvmlFailed(f"NVML {stopped}; look for NVRM lines in dmesg")
        if survey.asked is not None:
            survey.gpus[survey.asked] = {"index": survey.asked, "problem": f"NVML {stopped}"}
        if loop.time() >= end or survey.asked is None:
            for index in range(survey.count):
                survey.gpus.setdefault(
                    index, {"index": index, "problem": "not asked: the driver answers too slowly"}
                )
            break
    return _number(survey)


async def _run_helper(survey: _Survey, *, environ: Mapping[str, str], timeout_s: float) -> str:
    """Run one helper over the GPUs not yet known; returns in words why it stopped."""
    argv = [sys.executable, "-P", str(_helper), *map(str, survey.gpus)]
    async with _process(argv, environ) as process:
        assert process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    line = await process.stdout.readline()
            except TimeoutError:
                return f"did not answer within {timeout_s:g} s"
            if not line:
                break
            _note(survey, line)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await process.wait()
        status = process.returncode
        if status is not None and status < 0:
            return f"crashed the helper ({signal.Signals(-status).name})"
        return f"ended the helper (exit status {status})"


@asynccontextmanager
async def _process(
    argv: Sequence[str], environ: Mapping[str, str]
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """Run a process group, and end it on the way out without waiting for a driver that hangs."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(environ),
        start_new_session=True,
        limit=_LINE_LIMIT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):  # in the driver not even KILL may end it
                    await process.wait()


def _note(survey: _Survey, line: bytes) -> None:
    """Take one line of the helper; whatever else a library prints is not ours."""
    try:
        told: Any = json.loads(line)
    except ValueError:
        return
    match told:
        case {"error": int(number)}:
            raise NvmlFailed(describe_error(number), number=number)
        case {"step": "count", "count": int(count)}:
            survey.count = count
        case {"step": "gpu", "index": int(index)}:
            survey.asked = index
        case {"gpu": {"index": int(index)}}:
            survey.gpus[index] = told["gpu"]
            survey.asked = None
        case {"step": "end"}:
            survey.ended = True
        case _:
            pass


def _number(survey: _Survey) -> list[Slot]:
    """Make slots of what was told.

    Whole GPUs keep the driver's index as their id. Where a GPU is partitioned, indices cannot name
    the parts, and the slots are numbered through in the driver's order.
    """
    slots: list[Slot] = []
    partitioned = False
    for index in sorted(survey.gpus):
        gpu = survey.gpus[index]
        whole = _whole(gpu)
        if not gpu.get("mig"):
            slots.append(whole)
            continue
        partitioned = True
        slots += [_instance(whole, instance) for instance in gpu["instances"]]
        if not gpu["instances"]:
            problem = whole.problem or "MIG mode is on, but there is no instance"
            slots.append(replace(whole, problem=problem))
    if partitioned:
        return [replace(slot, id=position) for position, slot in enumerate(slots)]
    return slots


def _whole(gpu: Mapping[str, Any]) -> Slot:
    problem: str | None = gpu.get("problem")
    if gpu.get("error") is not None:
        problem = describe_error(gpu["error"])
    elif gpu.get("remapping_failed"):
        problem = "memory rows could not be remapped: the GPU must be reset or replaced"
    elif problem is None and not gpu["uuid"]:
        problem = "the driver tells no UUID"
    return Slot(
        id=gpu["index"],
        gpu_index=gpu["index"],
        type="cuda",
        brand=gpu.get("name") or "unknown GPU",
        uuid=gpu.get("uuid") or "",
        memory_bytes=gpu.get("memory_bytes"),
        pci_bus=gpu.get("pci_bus"),
        problem=problem,
    )


def _instance(whole: Slot, instance: Mapping[str, Any]) -> Slot:
    profile = re.search(r"\bMIG\s+(\S+)", instance["name"])
    problem = whole.problem
    if instance["error"] is not None:
        problem = describe_error(instance["error"])
    return Slot(
        id=whole.id,
        gpu_index=whole.gpu_index,
        type="cuda",
        brand=f"MIG {profile[1]}" if profile else f"MIG instance of {whole.brand}",
        uuid=instance["uuid"],
        memory_bytes=instance.get("memory_bytes"),
        pci_bus=whole.pci_bus,
        parent_uuid=whole.uuid,
        problem=problem or (None if instance["uuid"] else "the driver tells no UUID"),
    )


def select_visible(slots: Sequence[Slot], visible: str) -> list[Slot]:
    """Keep the GPUs that the setting `visible_gpus` names.

    Args:
        visible: Indices, UUIDs (or a beginning that fits one GPU only) or PCI addresses,
            comma-separated; empty: all.

    Raises:
        SlotsUnknown: It names a GPU that is not here.
    """
    wanted = [name.strip() for name in visible.split(",") if name.strip()]
    if not wanted:
        return list(slots)
    chosen: set[int] = set()
    for name in wanted:
        named = _named(slots, name)
        if not named:
            known = (
                ", ".join(f"{slot.gpu_index}={slot.uuid or 'unknown'}" for slot in slots) or "none"
            )
            raise SlotsUnknown(
                f"visible_gpus: {name!r} names no GPU of this machine (there are: {known});"
                " correct it, or set slot_type to cpu or none to offer no GPU"
            )
        chosen.update(named)
    return [slot for position, slot in enumerate(slots) if position in chosen]


def _named(slots: Sequence[Slot], name: str) -> list[int]:
    """Find the positions of the slots that *name* means; all instances for their GPU's name."""
    lowered = name.lower()
    bus = _short_bus(lowered)
    exact = [
        position
        for position, slot in enumerate(slots)
        if lowered in (str(slot.gpu_index), slot.uuid.lower(), (slot.parent_uuid or "").lower())
        or (bus is not None and bus == _short_bus((slot.pci_bus or "").lower()))
    ]
    if exact or not lowered.startswith(("gpu-", "mig-")):
        return exact
    begins = [
        position for position, slot in enumerate(slots) if slot.uuid.lower().startswith(lowered)
    ]
    return begins if len(begins) == 1 else []


def _short_bus(address: str) -> str | None:
    """Bring 00000000:c1:00.0, 0000:c1:00.0 and c1:00.0 to one spelling."""
    found = re.fullmatch(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", address)
    return f"{int(found[1] or '0', 16):x}:{found[2]}" if found else None


async def detect_nvidia(*, visible: str, environ: Mapping[str, str], timeout_s: float) -> Detection:
    """List the NVIDIA GPUs, each problem also as a note.

    Raises:
        NvmlFailed: See `read_gpus`.
        SlotsUnknown: *visible* names a GPU that is not here.
    """
    slots = await read_gpus(environ=environ, timeout_s=timeout_s)
    chosen = select_visible(slots, visible)
    notes = [
        f"GPU {slot.uuid or slot.id} is not offered: {slot.problem}"
        for slot in chosen
        if slot.problem
    ]
    return Detection(slots=tuple(chosen), notes=tuple(notes))
