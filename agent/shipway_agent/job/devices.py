"""The numbers of the devices that Slurm gave to this node's part of a job, however it names them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from shipway_agent.errors import SlotsUnknown
from shipway_agent.job.rank import VisibleDevices
from shipway_agent.slots import nvidia, rocm
from shipway_agent.slots.process import StuckProcesses
from shipway_agent.slots.slot import Slot
from shipway_agent.slots.visible import choose_by_setting

log = logging.getLogger(__name__)

_LIMIT_S = 5.0


async def number_devices(
    devices: VisibleDevices | None, environ: Mapping[str, str]
) -> Mapping[str, int]:
    """Ask the driver which number each device has that is named in another way.

    Those it does not tell are missing; so are all where it cannot be asked.
    """
    if devices is None or not devices.needs_numbers:
        return {}
    try:
        slots = await _ask(devices, environ)
    except SlotsUnknown as error:
        log.warning(
            "devices are given by UUID, and the driver does not tell their numbers: %s", error
        )
        return {}
    return find_numbers(slots, devices.names)


def find_numbers(slots: Sequence[Slot], names: Sequence[str]) -> Mapping[str, int]:
    """Find the number of each name: a UUID, the beginning of one, or another name of a device.

    It is the driver's index of a whole device, and of a part the number that no other device on
    this node has.
    """
    numbers: dict[str, int] = {}
    for name in names:
        found = [slots[position] for position in choose_by_setting(slots, name).positions]
        if not found:
            continue
        slot = min(found, key=lambda slot: slot.id)
        is_part = slot.parent_uuid is not None and len(found) == 1
        number = slot.id if is_part or slot.gpu_index is None else slot.gpu_index
        numbers[name] = number
    return numbers


async def _ask(devices: VisibleDevices, environ: Mapping[str, str]) -> Sequence[Slot]:
    if devices.variable == "CUDA_VISIBLE_DEVICES":
        return await nvidia.read_gpus(environ=environ, timeout_s=_LIMIT_S)
    found = await rocm.survey_gpus(
        environ=environ, root=Path("/"), timeout_s=_LIMIT_S, stuck=StuckProcesses()
    )
    return found.slots
