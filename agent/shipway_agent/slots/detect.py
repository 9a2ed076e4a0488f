"""From the settings to the slots of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from shipway_agent.config import AgentSettings, SlotType
from shipway_agent.errors import SlotsUnknown
from shipway_agent.slots import nvidia
from shipway_agent.slots.artificial import make_artificial
from shipway_agent.slots.cpu import read_cpu
from shipway_agent.slots.slot import Detection

_NVIDIA = "0x10de"
_DISPLAY = "0x03"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOptions:
    """What detection must know."""

    agent_id: str
    slot_type: SlotType = "auto"
    artificial_slots: int = 0
    visible_gpus: str = ""
    timeout_s: float = 10
    environ: Mapping[str, str]
    """For the helper process that asks the driver."""
    root: Path = Path("/")
    """Where /dev, /proc, /sys and /etc are."""

    @classmethod
    def of(cls, settings: AgentSettings, environ: Mapping[str, str]) -> SlotOptions:
        """Take what the settings say."""
        return cls(
            agent_id=settings.agent_id,
            slot_type=settings.slot_type,
            artificial_slots=settings.artificial_slots,
            visible_gpus=settings.visible_gpus or "",
            timeout_s=settings.slot_check_timeout_s,
            environ=environ,
        )

    @property
    def asks_driver(self) -> bool:
        """Whether the slots may be devices that come, go and break."""
        return not self.artificial_slots and self.slot_type in {"auto", "cuda", "gpu"}


async def detect_slots(options: SlotOptions) -> Detection:
    """List the slots of this machine.

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
            return await _nvidia(options)
        case "rocm":
            raise SlotsUnknown(
                "slot_type: this release cannot list ROCm devices; use cpu, none or cuda"
            )
        case "auto":
            return await _auto(options)
    assert_never(options.slot_type)


async def _cpu(options: SlotOptions, *notes: str) -> Detection:
    slot = await asyncio.to_thread(read_cpu, agent_id=options.agent_id, root=options.root)
    return Detection(slots=(slot,), notes=notes)


async def _nvidia(options: SlotOptions) -> Detection:
    detection = await nvidia.detect_nvidia(
        visible=options.visible_gpus, environ=options.environ, timeout_s=options.timeout_s
    )
    if not detection.slots and options.slot_type != "auto":
        raise SlotsUnknown(
            f"slot_type: {options.slot_type} is wanted, but the driver lists no GPU; use auto,"
            " cpu or none"
        )
    if detection.slots and not detection.usable:
        raise SlotsUnknown("no GPU of this machine is fit for use: " + "; ".join(detection.notes))
    return detection


async def _auto(options: SlotOptions) -> Detection:
    evidence = await asyncio.to_thread(find_nvidia_traces, options.root)
    try:
        detection = await _nvidia(options)
    except nvidia.NvmlFailed as error:
        has_no_driver = error.number == nvidia.LIBRARY_NOT_FOUND
        if evidence.driver or (evidence.hardware and not has_no_driver):
            found = ", ".join(evidence.driver + evidence.hardware)
            raise SlotsUnknown(
                f"there are NVIDIA GPUs here ({found}), but they cannot be read: {error}."
                " Set slot_type to cpu or none to run without them"
            ) from error
        if evidence.hardware:
            return await _cpu(
                options,
                f"there is an NVIDIA GPU ({', '.join(evidence.hardware)}) but no driver for it;"
                " the CPU is offered instead",
            )
        return await _cpu(options)
    if not detection.slots:
        return await _cpu(options, "the NVIDIA driver lists no GPU; the CPU is offered instead")
    return detection


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What says that a machine has NVIDIA GPUs, without asking the driver."""

    driver: tuple[str, ...]
    """Device nodes and kernel entries that only a driver makes."""
    hardware: tuple[str, ...]
    """PCI devices."""


def find_nvidia_traces(root: Path) -> Traces:
    """Look for GPUs in /dev, /proc and /sys below *root*."""
    nodes = sorted((root / "dev").glob("nvidia[0-9]*"))
    kernel = root / "proc/driver/nvidia"
    driver = [*nodes, kernel] if kernel.exists() else nodes
    hardware: list[str] = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor = (device / "vendor").read_text().strip()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue  # it was unplugged while we looked
        if vendor == _NVIDIA and kind.startswith(_DISPLAY):
            hardware.append(f"PCI {device.name}")
    return Traces(driver=tuple(map(str, driver)), hardware=tuple(hardware))
