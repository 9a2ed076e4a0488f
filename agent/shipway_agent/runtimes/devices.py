"""The device files and the variables by which a program finds its GPUs, and no others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.kfd import find_render_node
from shipway_agent.runtimes.spec import ContainerSpec, Gpu, GpuVendor

_nvidia_common = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")


def gpu_nodes(
    spec: ContainerSpec, *, dev: Path = Path("/dev"), proc: Path = Path("/proc")
) -> list[str]:
    """Return the device files that the GPUs of *spec* need, each as its path on this host.

    Raises:
        SpecUnsupported: This host has no such GPU.
    """
    nodes: list[str] = []
    nvidia = [gpu for gpu in spec.gpus if gpu.vendor == "nvidia"]
    rocm = [gpu for gpu in spec.gpus if gpu.vendor == "rocm"]
    if nvidia:
        nodes += _nvidia_nodes(nvidia, dev, proc)
    if rocm:
        nodes += rocm_nodes(rocm, dev)
    if spec.all_gpus:
        nodes += _all_nodes(spec.all_gpus, dev)
    return list(dict.fromkeys(nodes))


def rocm_nodes(
    gpus: Sequence[Gpu], dev: Path = Path("/dev"), sys: Path = Path("/sys")
) -> list[str]:
    """Return the compute and render nodes of AMD GPUs, found by their PCI addresses."""
    nodes = [str(dev / "kfd")]
    for gpu in gpus:
        if not gpu.pci_bus:
            raise SpecUnsupported(f"GPU {gpu.uuid}: its PCI address is not known")
        links = [
            dev / "dri" / "by-path" / f"pci-{gpu.pci_bus.lower()}-{kind}"
            for kind in ("card", "render")
        ]
        if missing := [link for link in links if not link.exists()]:
            render = find_render_node(gpu.pci_bus, dev=dev, sys=sys)
            if render is None:
                raise SpecUnsupported(f"GPU {gpu.uuid}: {missing[0]} does not exist on this host")
            nodes.append(render)
        else:
            nodes += [os.path.realpath(link) for link in links]
    return nodes


def rocm_device_nodes(spec: ContainerSpec) -> list[str]:
    """Return the device files that an engine must give for the AMD GPUs of *spec*; blocking.

    Raises:
        SpecUnsupported: This host has no such GPU.
    """
    gpus = [gpu for gpu in spec.gpus if gpu.vendor == "rocm"]
    if gpus:
        return rocm_nodes(gpus)
    return ["/dev/kfd", "/dev/dri"] if spec.all_gpus == "rocm" else []


def node_groups(nodes: Iterable[str]) -> list[str]:
    """Return the groups that may open *nodes*, as numbers: an image need not have their names.

    Blocking.
    """
    groups: set[int] = set()
    for node in nodes:
        paths = sorted(Path(node).iterdir()) if os.path.isdir(node) else [Path(node)]
        groups |= {path.stat().st_gid for path in paths if not path.is_dir()}
    return [str(group) for group in sorted(groups - {0})]


def without_nvidia(spec: ContainerSpec) -> dict[str, str]:
    """Return the environment of *spec*, which hides NVIDIA's GPUs from one that has none of them.

    Where the NVIDIA runtime is an engine's default, it gives all of them to whoever says nothing,
    and any of them to whoever names it.
    """
    has_some = spec.all_gpus == "nvidia" or any(gpu.vendor == "nvidia" for gpu in spec.gpus)
    hiding = {} if has_some else {"NVIDIA_VISIBLE_DEVICES": "void"}
    return {**spec.environment, **hiding}


def gpu_variables(gpus: Sequence[Gpu], *, sees_others: bool = False) -> dict[str, str]:
    """Return the variables that limit CUDA and ROCm programs to *gpus*; to none if it is empty.

    Args:
        sees_others: Whether the task sees the device files of other GPUs. ROCm counts only those
            that it can open, so that an index means something else where it sees fewer.
    """
    nvidia = [gpu.uuid for gpu in gpus if gpu.vendor == "nvidia"]
    amd = [gpu for gpu in gpus if gpu.vendor == "rocm"]
    rocm = [_rocr_name(gpu) or (_index(gpu) if sees_others else "") for gpu in amd]
    variables: dict[str, str] = {}
    if nvidia or not rocm:
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(nvidia)
    if (rocm and all(rocm)) or not gpus:
        variables["ROCR_VISIBLE_DEVICES"] = ",".join(rocm)
    return variables


def limiting_variables(spec: ContainerSpec) -> dict[str, str]:
    """Return what keeps a task that sees all device files of the host on its own GPUs."""
    if spec.all_gpus or not (spec.gpus or has_gpus()):
        return {}
    return gpu_variables(spec.gpus, sees_others=True)


def has_gpus(dev: Path = Path("/dev")) -> bool:
    """Say whether this host has device files of any GPU driver."""
    return (dev / "nvidiactl").exists() or (dev / "kfd").exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Card:
    """An NVIDIA card as its driver describes it."""

    bus: str
    uuid: str
    minor: int


def nvidia_minors(proc: Path = Path("/proc")) -> dict[str, int]:
    """Return the device minor of each card by its UUID, as the driver tells it."""
    return {card.uuid: card.minor for card in _nvidia_cards(proc)}


def _nvidia_nodes(gpus: Sequence[Gpu], dev: Path, proc: Path) -> list[str]:
    nodes = [str(dev / name) for name in _nvidia_common if (dev / name).exists()]
    cards = _nvidia_cards(proc)
    for gpu in gpus:
        if gpu.uuid.startswith("MIG-"):
            nodes += _instance_nodes(gpu, cards, dev, proc)
        elif found := [card for card in cards if card.uuid == gpu.uuid]:
            nodes.append(str(dev / f"nvidia{found[0].minor}"))
        else:
            raise SpecUnsupported(f"GPU {gpu.uuid}: the driver of this host knows no such card")
    return nodes


def _instance_nodes(gpu: Gpu, cards: Sequence[_Card], dev: Path, proc: Path) -> list[str]:
    """Return the nodes of a MIG instance's card and of the instances there.

    Which card it is on only NVML knows, from which its PCI address comes; without one, all of them.
    """
    bus = _plain_bus(gpu.pci_bus or "")
    here = [card for card in cards if card.bus == bus] or cards
    caps = dev / "nvidia-caps"
    own = [caps / f"nvidia-cap{minor}" for card in here for minor in _cap_minors(card, proc)]
    found = [path for path in own if path.exists()] or sorted(caps.glob("*"))
    return [*(str(dev / f"nvidia{card.minor}") for card in here), *map(str, found)]


def _cap_minors(card: _Card, proc: Path) -> list[int]:
    """Return the minors of the device files by which the MIG instances of a card can be used."""
    folder = proc / "driver" / "nvidia" / "capabilities" / f"gpu{card.minor}" / "mig"
    fields = [_read_fields(path) for path in sorted(folder.rglob("access"))]
    return [int(minor) for one in fields if (minor := one.get("DeviceFileMinor", "")).isdigit()]


def _nvidia_cards(proc: Path) -> list[_Card]:
    cards: list[_Card] = []
    for path in sorted((proc / "driver" / "nvidia" / "gpus").glob("*/information")):
        fields = _read_fields(path)
        uuid, minor = fields.get("GPU UUID", ""), fields.get("Device Minor", "")
        if uuid and minor.isdigit():
            cards.append(_Card(bus=_plain_bus(path.parent.name), uuid=uuid, minor=int(minor)))
    return cards


def _plain_bus(address: str) -> str:
    """Return a PCI address in the one form of the many; the driver's own have domains of any length."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain.lstrip('0')}:{rest}"


def _read_fields(path: Path) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _all_nodes(vendor: GpuVendor, dev: Path) -> list[str]:
    """Return what is there of a vendor; the scheduler's cgroup says which of it can be opened."""
    if vendor == "nvidia":
        paths = [*dev.glob("nvidia*"), *dev.glob("nvidia-caps/*")]
    else:
        paths = [*dev.glob("kfd"), *dev.glob("dri/card*"), *dev.glob("dri/renderD*")]
    return [str(path) for path in sorted(paths) if not path.is_dir()]


def _index(gpu: Gpu) -> str:
    return "" if gpu.index is None else str(gpu.index)


def _rocr_name(gpu: Gpu) -> str | None:
    """Return a GPU's unique id as ROCr wants it: GPU- and sixteen hexadecimal digits.

    None if it has no such id, or not alone: cards of some kinds tell none, and the partitions of
    one card share one.
    """
    if gpu.uuid.startswith("GPU-"):
        return gpu.uuid
    digits = gpu.uuid.removeprefix("0x").lower()
    return f"GPU-{digits.zfill(16)}" if re.fullmatch("[0-9a-f]{1,16}", digits) else None
