"""What says that a machine has GPUs, without asking their drivers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_NVIDIA, _AMD = "0x10de", "0x1002"
_DISPLAY, _ACCELERATOR = "0x03", "0x12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """What was found of one vendor."""

    driver: tuple[str, ...]
    """Device nodes and kernel entries that only a driver makes."""
    hardware: tuple[str, ...]
    """PCI devices."""

    @property
    def all(self) -> str:
        """Return everything, in words."""
        return ", ".join(self.driver + self.hardware)


def find_nvidia_traces(root: Path) -> Traces:
    """Look for NVIDIA GPUs in /dev, /proc and /sys below *root*."""
    nodes = sorted((root / "dev").glob("nvidia[0-9]*"))
    kernel = root / "proc/driver/nvidia"
    driver = [*nodes, kernel] if kernel.exists() else nodes
    return Traces(driver=tuple(map(str, driver)), hardware=_find_pci(root, _NVIDIA))


def find_amd_traces(root: Path) -> Traces:
    """Look for AMD GPUs that can compute in /sys below *root*.

    The kernel's list of compute nodes has the processors too, which have no SIMD units.
    """
    nodes: list[str] = []
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*")):
        words = _read(node / "properties").split()
        if "simd_count" in words[:-1] and words[words.index("simd_count") + 1] != "0":
            nodes.append(f"KFD node {node.name}")
    return Traces(driver=tuple(nodes), hardware=_find_pci(root, _AMD))


def _find_pci(root: Path, vendor: str) -> tuple[str, ...]:
    return tuple(
        f"PCI {device.name}"
        for device in sorted((root / "sys/bus/pci/devices").glob("*"))
        if _read(device / "vendor").strip() == vendor
        and _read(device / "class").startswith((_DISPLAY, _ACCELERATOR))
    )


def _read(file: Path) -> str:
    """Read a small file; nothing if it is not there, for a device may be unplugged while we look."""
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
