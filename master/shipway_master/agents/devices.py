"""Devices of an agent: what a slot is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shipway_master.agents.fields import get, read_integer, read_mapping, read_sequence, read_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device as the agent named it; it must be given back letter for letter."""

    id: int
    brand: str
    uuid: str
    type: str
    """`cpu`, `cuda`, `rocm`, or something newer."""


def read_devices(value: Any) -> tuple[Device, ...]:
    """Read a list of devices; null is an empty one.

    Raises:
        BadMessage: A part has the wrong type.
    """
    devices: list[Device] = []
    for entry in read_sequence(value, "devices"):
        fields = read_mapping(entry, "device")
        devices.append(
            Device(
                id=read_integer(get(fields, "id"), "device.id"),
                brand=read_text(get(fields, "brand"), "device.brand"),
                uuid=read_text(get(fields, "uuid"), "device.uuid"),
                type=read_text(get(fields, "type"), "device.type"),
            )
        )
    return tuple(devices)


def dump_device(device: Device) -> Mapping[str, Any]:
    """Write a device as it came."""
    return {"id": device.id, "brand": device.brand, "uuid": device.uuid, "type": device.type}
