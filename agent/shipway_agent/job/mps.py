"""The way of a task to NVIDIA's Multi-Process Service, which several tasks on one GPU share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from shipway_agent.runtimes.spec import ContainerSpec, Mount

_PIPES = "CUDA_MPS_PIPE_DIRECTORY"


def with_mps(spec: ContainerSpec, environment: Mapping[str, str]) -> ContainerSpec:
    """Give a container the folder of the service's pipes, if the node says where it is; blocking.

    Without it CUDA finds no service, and reports that all devices are busy.

    Args:
        spec: What the container is to be. One without an image sees the node's files anyway.
        environment: The container's.
    """
    folder = Path(environment.get(_PIPES, ""))
    is_there = any(Path(mount.target) == folder for mount in spec.mounts)
    if spec.image is None or is_there or not folder.is_absolute() or not folder.is_dir():
        return spec
    return replace(spec, mounts=(*spec.mounts, Mount(source=str(folder), target=str(folder))))
