"""NVIDIA's GPUs in the Container Device Interface: which name each has in the files of this host."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.devices import nvidia_minors
from shipway_agent.runtimes.spec import Gpu

log = logging.getLogger(__name__)

KIND = "nvidia.com/gpu"
ALL = f"{KIND}=all"
FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""Where engines look when nobody tells them otherwise."""


def cdi_names(
    gpus: Iterable[Gpu], folders: Sequence[Path] = FOLDERS, *, proc: Path = Path("/proc")
) -> list[str]:
    """Return the full CDI name of each NVIDIA GPU; blocking.

    A file may name a GPU by its UUID or, as older tools write it, by its number; then the device
    file tells which one it is.

    Raises:
        SpecUnsupported: No file names one of them.
    """
    devices = dict(_read_devices(folders))
    minors = nvidia_minors(proc)
    return [_name_of(gpu, devices, minors, folders) for gpu in gpus]


def has_cdi(folders: Sequence[Path]) -> bool:
    """Say whether any file there describes NVIDIA's GPUs; blocking."""
    return next(_read_devices(folders), None) is not None


def _name_of(
    gpu: Gpu,
    devices: Mapping[str, frozenset[str]],
    minors: Mapping[str, int],
    folders: Sequence[Path],
) -> str:
    if gpu.uuid in devices:
        return f"{KIND}={gpu.uuid}"
    node = f"/dev/nvidia{minors[gpu.uuid]}" if gpu.uuid in minors else None
    cards = {name: _cards(nodes) for name, nodes in devices.items()}
    for name, found in cards.items():
        if node is not None and found == {node}:
            return f"{KIND}={name}"
    raise SpecUnsupported(
        f"GPU {gpu.uuid} is in no CDI file in {' or '.join(str(folder) for folder in folders)};"
        " nvidia-ctk cdi generate --device-name-strategy=uuid writes one"
    )


def _cards(nodes: Iterable[str]) -> set[str]:
    return {node for node in nodes if node.removeprefix("/dev/nvidia").isdecimal()}


def _read_devices(folders: Iterable[Path]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each device's name and its device files."""
    for folder in folders:
        for path in sorted([*folder.glob("*.json"), *folder.glob("*.yaml")]):
            try:
                text = path.read_bytes()
                spec: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
                if spec["kind"] == KIND:
                    yield from [_device(one) for one in spec["devices"]]
            except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
                log.warning("CDI file not read", extra={"file": str(path), "reason": str(error)})


def _device(described: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    edits: Mapping[str, Any] = described.get("containerEdits") or {}
    nodes: Sequence[Mapping[str, Any]] = edits.get("deviceNodes") or ()
    return str(described["name"]), frozenset(str(node.get("path")) for node in nodes)
