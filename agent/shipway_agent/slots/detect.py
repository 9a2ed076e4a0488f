"""From the settings to the slots of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from shipway_agent.config import AgentSettings, SlotType
from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots import nvidia, rocm, rocm_errors
from shipway_agent.slots.artificial import make_artificial
from shipway_agent.slots.cpu import read_cpu
from shipway_agent.slots.nvml_status import LIBRARY_NOT_FOUND
from shipway_agent.slots.process import StuckProcesses
from shipway_agent.slots.rocm_programs import NoRocmProgram
from shipway_agent.slots.slot import Detection, Slot
from shipway_agent.slots.traces import find_amd_traces, find_nvidia_traces
from shipway_agent.slots.visible import (
    Choice,
    choose_by_cuda,
    choose_by_nvidia,
    choose_by_rocr,
    choose_by_setting,
)

_ChooseByVariable = Callable[[Sequence[Slot], str, str], Choice]

_SETTING = "visible_gpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOptions:
    """What detection must know."""

    agent_id: str
    slot_type: SlotType = "auto"
    artificial_slots: int = 0
    visible_gpus: str | None = None
    """None: what the vendors' variables say counts."""
    timeout_s: float = 10
    environ: Mapping[str, str]
    """For the programs that ask the drivers, and with the vendors' variables."""
    root: Path = Path("/")
    """Where /dev, /proc, /sys, /etc and /opt are."""
    stuck: StuckProcesses = field(default_factory=StuckProcesses)

    @classmethod
    def of(cls, settings: AgentSettings, environ: Mapping[str, str]) -> SlotOptions:
        """Take what the settings say."""
        return cls(
            agent_id=settings.agent_id,
            slot_type=settings.slot_type,
            artificial_slots=settings.artificial_slots,
            visible_gpus=settings.visible_gpus,
            timeout_s=settings.slot_check_timeout_s,
            environ=environ,
        )

    @property
    def asks_driver(self) -> bool:
        """Whether the slots may be devices that come, go and break."""
        return not self.artificial_slots and self.slot_type in {"auto", "cuda", "gpu", "rocm"}


async def detect_slots(options: SlotOptions, *, is_strict: bool = True) -> Detection:
    """List the slots of this machine, healthy or not.

    Args:
        is_strict: Whether it is an error that the setting names a device which is not here; once
            the agent runs, a device that is gone must not hide the others.

    Raises:
        SlotsUnknown: Devices of the wanted kind are missing or cannot be read. With `auto` that is
            so only if something says that there are GPUs; then the CPU does not take their place.
    """
    if options.artificial_slots:
        number = options.artificial_slots
        return Detection(slots=tuple(make_artificial(agent_id=options.agent_id, number=number)))
    match options.slot_type:
        case "none":
            return Detection(slots=())
        case "cpu":
            return await _cpu(options)
        case "cuda" | "gpu":
            return _require_some(options, await _nvidia(options, is_strict))
        case "rocm":
            return _require_some(options, await _rocm(options, is_strict))
        case "auto":
            return await _auto(options, is_strict)
    assert_never(options.slot_type)


async def looks_unchanged(options: SlotOptions, slots: Sequence[Slot]) -> bool:
    """Say whether cheap evidence speaks for all of *slots*, which were well, being so still.

    Where there is no such evidence, or nothing is saved by it, the answer is no.
    """
    if not slots or any(slot.type != "rocm" for slot in slots):
        return False
    return await rocm_errors.looks_unchanged(
        slots,
        environ=options.environ,
        root=options.root,
        timeout_s=options.timeout_s,
        stuck=options.stuck,
    )


def require_usable(detection: Detection) -> None:
    """Refuse a machine whose devices are all broken: it would register as one without any.

    Raises:
        SlotsUnknown: There are devices, and each has its problem.
    """
    if detection.slots and not detection.usable:
        problems = "; ".join(describe_problems(detection))
        raise SlotsUnknown(f"no device of this machine is fit for use: {problems}")


def describe_problems(detection: Detection) -> list[str]:
    """Say of each device that is not fit for use why it is not, each in a sentence."""
    return [
        f"{slot.type} device {slot.uuid or slot.id} is not offered: {slot.problem}"
        for slot in detection.slots
        if slot.problem
    ]


def _require_some(options: SlotOptions, detection: Detection) -> Detection:
    if detection.slots:
        return detection
    if detection.hidden:
        raise SlotsUnknown(
            f"{_describe_hidden(options, detection)}; slot_type is {options.slot_type}, which wants"
            " at least one"
        )
    raise SlotsUnknown(
        f"slot_type: {options.slot_type} is wanted, but the driver lists no GPU; use auto, cpu or"
        " none"
    )


async def _cpu(options: SlotOptions, *notes: str) -> Detection:
    slot = await asyncio.to_thread(read_cpu, agent_id=options.agent_id, root=options.root)
    return Detection(slots=(slot,), notes=notes)


async def _nvidia(options: SlotOptions, is_strict: bool) -> Detection:
    found = await nvidia.survey_gpus(
        environ=options.environ, timeout_s=options.timeout_s, stuck=options.stuck
    )
    return _select(options, found.slots, (), found.versions, is_strict)


async def _rocm(options: SlotOptions, is_strict: bool) -> Detection:
    found = await rocm.survey_gpus(
        environ=options.environ,
        root=options.root,
        timeout_s=options.timeout_s,
        stuck=options.stuck,
    )
    return _select(options, found.slots, found.notes, found.versions, is_strict)


async def _auto(options: SlotOptions, is_strict: bool) -> Detection:
    """Take NVIDIA's GPUs, else AMD's, else the CPU; say it where that is not for want of GPUs."""
    notes: list[str] = []
    for look in (_try_nvidia, _try_rocm):
        detection, note = await look(options, is_strict)
        if detection is not None and detection.slots:
            return detection
        if detection is not None and detection.hidden:
            note = _describe_hidden(options, detection)
        notes += [note] if note else []
    return await _cpu(options, *(f"{note}; the CPU is offered instead" for note in notes))


async def _try_nvidia(options: SlotOptions, is_strict: bool) -> tuple[Detection | None, str]:
    traces = await asyncio.to_thread(find_nvidia_traces, options.root)
    try:
        detection = await _nvidia(options, is_strict)
    except nvidia.NvmlFailed as error:
        has_no_driver = error.number == LIBRARY_NOT_FOUND
        if traces.driver or (traces.hardware and not has_no_driver):
            raise SlotsUnknown(_unreadable("NVIDIA", traces.all, error)) from error
        if traces.hardware:
            return None, f"there is an NVIDIA GPU ({traces.all}) but no driver for it"
        return None, "" if has_no_driver else f"NVIDIA's library is here, but {error}"
    return detection, "" if detection.slots else "the NVIDIA driver lists no GPU"


async def _try_rocm(options: SlotOptions, is_strict: bool) -> tuple[Detection | None, str]:
    traces = await asyncio.to_thread(find_amd_traces, options.root)
    try:
        detection = await _rocm(options, is_strict)
    except NoRocmProgram as error:
        # So it is on every desktop with an AMD processor; a cluster's node has the program.
        return None, f"there is an AMD GPU ({traces.all}), but {error}" if traces.driver else ""
    except SlotsUnknown as error:
        if traces.driver or traces.hardware:
            raise SlotsUnknown(_unreadable("AMD", traces.all, error)) from error
        return None, ""
    if not detection.slots and not detection.hidden and traces.driver:
        raise SlotsUnknown(_unreadable("AMD", traces.all, "the program lists none"))
    return detection, ""


def _unreadable(vendor: str, traces: str, why: object) -> str:
    return (
        f"there are {vendor} GPUs here ({traces}), but they cannot be read: {why}."
        " Set slot_type to cpu or none to run without them"
    )


def _select(
    options: SlotOptions,
    slots: Sequence[Slot],
    notes: Sequence[str],
    versions: Mapping[str, str],
    is_strict: bool,
) -> Detection:
    """Part the devices into those to offer and those to hide."""
    chosen = set(range(len(slots)))
    said = list(notes)
    for choice in _choices(options, slots):
        chosen &= set(choice.positions)
        said += choice.notes
        if choice.unknown:
            said.append(_handle_unknown(choice.unknown, slots, is_strict))
    return Detection(
        slots=tuple(slot for position, slot in enumerate(slots) if position in chosen),
        hidden=tuple(slot for position, slot in enumerate(slots) if position not in chosen),
        notes=tuple(said),
        versions=versions,
    )


def _choices(options: SlotOptions, slots: Sequence[Slot]) -> list[Choice]:
    if options.visible_gpus is not None:
        return [choose_by_setting(slots, options.visible_gpus)]
    is_amd = any(slot.type == "rocm" for slot in slots)
    return [
        choose(slots, options.environ[variable], variable)
        for variable, choose in _find_variables(options, is_amd)
    ]


def _find_variables(options: SlotOptions, is_amd: bool) -> Sequence[tuple[str, _ChooseByVariable]]:
    """List the variables that count here, and how they are read."""
    environ = options.environ
    if is_amd:  # HIP takes CUDA's variable too
        names = ("ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
        return [(name, choose_by_rocr) for name in names if name in environ][:1]
    readers: list[tuple[str, _ChooseByVariable]] = [
        ("CUDA_VISIBLE_DEVICES", choose_by_cuda),
        ("NVIDIA_VISIBLE_DEVICES", choose_by_nvidia),
    ]
    return [(name, choose) for name, choose in readers if name in environ]


def _describe_hidden(options: SlotOptions, detection: Detection) -> str:
    """Say what hides all of the GPUs."""
    hider = _SETTING
    if options.visible_gpus is None:
        is_amd = any(slot.type == "rocm" for slot in detection.hidden)
        names = [name for name, _ in _find_variables(options, is_amd)]
        hider = " and ".join(f"{name}={options.environ[name]!r}" for name in names)
    return f"all {len(detection.hidden)} GPUs are hidden by {hider}"


def _handle_unknown(names: Sequence[str], slots: Sequence[Slot], is_strict: bool) -> str:
    wanted = ", ".join(repr(name) for name in names)
    known = ", ".join(f"{slot.gpu_index}={slot.uuid or 'unknown'}" for slot in slots) or "none"
    text = f"{_SETTING}: {wanted} names no GPU of this machine (there are: {known})"
    # A GPU that is lost does not tell its UUID, and must not keep the others from work.
    if is_strict and all(slot.uuid for slot in slots):
        raise SlotsUnknown(f"{text}; correct it, or set slot_type to cpu or none to offer no GPU")
    return text
