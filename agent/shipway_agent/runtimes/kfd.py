"""What the kernel's list of AMD compute nodes says about a GPU or a partition of one.

A partition is no PCI device and has no link in /dev/dri/by-path. rocm-smi counts partitions in the
function of the PCI address, while the kernel keeps their number in the four highest bits of
`location_id`, above the address of the card (MI300 in the modes DPX, TPX, QPX and CPX).
"""

from __future__ import annotations

import re
from pathlib import Path

_ADDRESS = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
_FUNCTION_BITS = 0b111


def find_render_node(
    pci_bus: str, *, dev: Path = Path("/dev"), sys: Path = Path("/sys")
) -> str | None:
    """Return the file by which programs compute on the GPU at *pci_bus*; None if there is none."""
    match = _ADDRESS.fullmatch(pci_bus)
    if match is None:
        return None
    domain, bus, slot, function = (int(part, 16) for part in match.groups())
    card = bus << 8 | slot << 3
    for node in _read_nodes(sys):
        place = node.get("location_id", -1)
        address, partition = place & 0xFFFF, place >> 28
        is_whole = partition == 0 and address == card | function
        is_part = partition == function and address & ~_FUNCTION_BITS == card
        if node.get("domain", 0) == domain and node.get("simd_count") and (is_whole or is_part):
            file = dev / "dri" / f"renderD{node.get('drm_render_minor', 0)}"
            return str(file) if file.exists() else None
    return None


def _read_nodes(sys: Path) -> list[dict[str, int]]:
    nodes: list[dict[str, int]] = []
    for file in sorted((sys / "class/kfd/kfd/topology/nodes").glob("*/properties")):
        try:
            lines = file.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            continue  # nodes of others may not be read
        pairs = (line.split() for line in lines)
        nodes.append({pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and _is_int(pair)})
    return nodes


def _is_int(pair: list[str]) -> bool:
    return pair[1].isascii() and pair[1].isdigit()
