"""NVIDIA GPUs and their MIG instances, asked through NVML by a helper process."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots.nvml_status import (
    describe_error,
    find_unanswered,
    judge,
    read_count,
)
from shipway_agent.slots.process import Helper, StuckProcesses, helper
from shipway_agent.slots.slot import Slot

_helper = Path(__file__).with_name("nvml_probe.py")
_WHOLE = "NVML"
"""What a helper asks about until it comes to a GPU."""
_GPU = "NVML GPU "
_BEGINNING = 3
"""The driver wakes all GPUs at first, which takes seconds for each where nothing keeps them up."""


class NvmlFailed(SlotsUnknown):
    """NVML as a whole does not work."""

    def __init__(self, message: str, *, number: int | None = None) -> None:
        super().__init__(message)
        self.number = number
        """NVML's status; None if the helper did not get as far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpus:
    """What NVML told."""

    slots: tuple[Slot, ...]
    versions: Mapping[str, str]


@dataclass(slots=True)
class _Survey:
    """What the helpers told so far."""

    count: int | None = None
    versions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    gpus: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    ended: bool = False
    asked: int | None = None
    """The GPU that was asked last and has not answered."""


async def read_gpus(*, environ: Mapping[str, str], timeout_s: float) -> list[Slot]:
    """Ask NVML once about all GPUs; see `survey_gpus`."""
    found = await survey_gpus(environ=environ, timeout_s=timeout_s, stuck=StuckProcesses())
    return list(found.slots)


async def survey_gpus(
    *, environ: Mapping[str, str], timeout_s: float, stuck: StuckProcesses
) -> NvidiaGpus:
    """Ask NVML about all GPUs; MIG instances take the place of their GPU.

    A GPU that hangs or crashes the helper is left out on the next try, so that it cannot hide the
    others; it is in the result, with its problem and without a UUID.

    Args:
        timeout_s: Limit for each GPU; three of it for the driver to begin, about six for all.
        stuck: Helpers of former calls that the driver still holds: what these ask about is not
            asked again.

    Raises:
        NvmlFailed: The library is missing, or none of the GPUs could be asked.
    """
    if pid := stuck.find(_WHOLE):
        raise NvmlFailed(f"NVML still holds process {pid}, which asked it before: reboot")
    survey = _Survey()
    loop = asyncio.get_running_loop()
    end = loop.time() + 6 * timeout_s
    while not survey.ended:
        survey.asked = None
        problem = await _run_helper(survey, environ, timeout_s, stuck)
        if survey.count is None:
            raise NvmlFailed(f"NVML {problem}; look for NVRM lines in dmesg")
        if survey.asked is not None:
            survey.gpus[survey.asked] = _unasked(survey.asked, f"NVML {problem}")
        if survey.asked is None or loop.time() >= end:
            break
    for index in range(survey.count or 0):
        survey.gpus.setdefault(index, _unasked(index, "not asked: NVML answers too slowly"))
    return NvidiaGpus(slots=tuple(_number(survey)), versions=_name_versions(survey.versions))


def _unasked(index: int, problem: str) -> dict[str, Any]:
    return {"index": index, "uuid": "", "problem": problem}


async def _run_helper(
    survey: _Survey, environ: Mapping[str, str], timeout_s: float, stuck: StuckProcesses
) -> str:
    """Run one helper over the GPUs not yet known; returns in words why it stopped."""
    for subject, pid in stuck.find_all(_GPU).items():
        index = int(subject.removeprefix(_GPU))
        text = f"the driver still holds process {pid}, which asked for it before: reboot"
        survey.gpus.setdefault(index, _unasked(index, text))
    argv = [sys.executable, "-P", str(_helper), *map(str, survey.gpus)]
    try:
        async with helper(argv, environ, subject=_WHOLE, stuck=stuck) as running:
            problem = await _listen(running, survey, timeout_s)
            return problem or f"ended the helper: it {await running.wait(timeout_s)}"
    except OSError as error:
        raise NvmlFailed(f"the helper that asks NVML cannot be started: {error}") from error


async def _listen(running: Helper, survey: _Survey, timeout_s: float) -> str | None:
    """Take what the helper says; returns what is wrong, None at its end."""
    loop = asyncio.get_running_loop()
    limit_s = timeout_s * _BEGINNING
    deadline = loop.time() + limit_s
    while not survey.ended:
        try:
            async with asyncio.timeout_at(deadline):
                line = await running.stdout.readline()
        except TimeoutError:
            return f"did not answer within {limit_s:g} s"
        except ValueError:  # a line without an end
            return "answered with what is no answer"
        if not line:
            return None
        if _note(survey, line):
            limit_s = timeout_s if survey.asked is not None else limit_s
            deadline = loop.time() + limit_s
            running.subject = _WHOLE if survey.asked is None else f"{_GPU}{survey.asked}"
    return None


def _note(survey: _Survey, line: bytes) -> bool:
    """Take one line of the helper; returns whether it is one of its own."""
    try:
        told: Any = json.loads(line)
    except ValueError:
        return False
    match told:
        case {"error": int(number)}:
            raise NvmlFailed(describe_error(number), number=number)
        case {"step": "init"}:
            pass
        case {"step": "count", "count": int(count), "versions": dict()}:
            survey.count, survey.versions = count, told["versions"]
        case {"step": "gpu", "index": int(index)}:
            survey.asked = index
        case {"gpu": {"index": int(index), "uuid": str()}}:
            survey.gpus[index] = told["gpu"]
            survey.asked = None
        case {"step": "end"}:
            survey.ended = True
        case _:
            return False
    return True


def _name_versions(told: Mapping[str, Any]) -> dict[str, str]:
    versions: dict[str, str] = {}
    driver = told.get("driver", {}).get("value")
    if driver:
        versions["NVIDIA driver"] = str(driver)
    cuda = read_count(told.get("cuda"))
    if cuda:
        versions["CUDA"] = f"{cuda // 1000}.{cuda % 1000 // 10}"
    return versions


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
        if "instances" not in gpu:
            slots.append(whole)
            continue
        partitioned = True
        why = find_unanswered(gpu["instances"])
        instances: list[Any] = [] if why else gpu["instances"]["value"]
        slots += [_instance(whole, instance) for instance in instances]
        if not instances:
            none = f"MIG mode is on, but its instances: {why}" if why else _NO_INSTANCE
            slots.append(replace(whole, problem=whole.problem or none))
    if partitioned:
        slots = [replace(slot, id=position) for position, slot in enumerate(slots)]
    return _without_twins(slots)


_NO_INSTANCE = "MIG mode is on, but there is no instance: make some, or turn the mode off"


def _without_twins(slots: list[Slot]) -> list[Slot]:
    """Let no two healthy slots have one UUID: a container could not be given the right one."""
    seen: dict[str, int] = {}
    result: list[Slot] = []
    for slot in slots:
        first = seen.setdefault(slot.uuid, slot.id) if slot.uuid else slot.id
        if first != slot.id and slot.problem is None:
            slot = replace(slot, problem=f"it tells the same UUID as slot {first}")
        result.append(slot)
    return result


def _whole(gpu: Mapping[str, Any]) -> Slot:
    problem: str | None = gpu.get("problem")
    checks: Mapping[str, str] = {}
    if gpu.get("error") is not None:
        problem = describe_error(gpu["error"])
    elif problem is None:
        problem, checks = judge(gpu)
        problem = problem or (None if gpu["uuid"] else "the driver tells no UUID")
    return Slot(
        id=gpu["index"],
        gpu_index=gpu["index"],
        type="cuda",
        brand=gpu.get("name") or "unknown GPU",
        uuid=gpu["uuid"],
        memory_bytes=read_count(gpu.get("memory_bytes")) or None,
        pci_bus=gpu.get("pci_bus", {}).get("value") or None,
        problem=problem,
        checks=checks,
    )


def _instance(whole: Slot, instance: Mapping[str, Any]) -> Slot:
    profile = re.search(r"\bMIG\s+(\S+)", instance["name"])
    problem = whole.problem
    if instance["error"] is not None:
        problem = describe_error(instance["error"])
    return replace(
        whole,
        brand=f"MIG {profile[1]}" if profile else f"MIG instance of {whole.brand}",
        uuid=instance["uuid"],
        memory_bytes=read_count(instance["memory_bytes"]) or None,
        parent_uuid=whole.uuid,
        aliases=tuple(_instance_names(whole, instance)),
        problem=problem or (None if instance["uuid"] else "the driver tells no UUID"),
    )


def _instance_names(whole: Slot, instance: Mapping[str, Any]) -> list[str]:
    """Name an instance as CUDA did before instances had UUIDs, and as the container tools do."""
    names = [f"{whole.gpu_index}:{instance['place']}"]
    parts = [read_count(instance[key]) for key in ("gpu_instance", "compute_instance")]
    if None not in parts:
        names.append(f"MIG-{whole.uuid}/{parts[0]}/{parts[1]}")
    return names
