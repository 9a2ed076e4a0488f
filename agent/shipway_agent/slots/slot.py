"""One device that the agent may offer, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

DeviceType = Literal["cuda", "rocm", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One device, or a partition of one."""

    id: int
    """The master's name for it on this agent: the driver's index, where devices are whole."""
    type: DeviceType
    brand: str
    uuid: str
    """The vendor's own id; opaque, and empty only if the device would not tell it."""
    memory_bytes: int | None = None
    """None if the device does not tell it."""
    gpu_index: int | None = None
    """The driver's index of the whole device."""
    pci_bus: str | None = None
    parent_uuid: str | None = None
    """The whole device, if this is a partition."""
    aliases: tuple[str, ...] = ()
    """Other names that the vendor's own programs take for it."""
    problem: str | None = None
    """Why no task should get it; None: it is healthy as far as it can be asked."""
    checks: Mapping[str, str] = field(default_factory=dict[str, str])
    """What was asked of its health, and the answer in words: a number, `not supported`, …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What was found, healthy or not."""

    slots: tuple[Slot, ...]
    hidden: tuple[Slot, ...] = ()
    """Devices that a setting or the environment keeps from being offered."""
    notes: tuple[str, ...] = ()
    """What whoever runs the machine should know; each a sentence."""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Of the driver and what comes with it, by name; what is not told is not in it."""

    @property
    def usable(self) -> tuple[Slot, ...]:
        """Return the slots that can be offered."""
        return tuple(slot for slot in self.slots if slot.problem is None)
