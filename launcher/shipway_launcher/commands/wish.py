"""From the options of `run` to a manifest like those that a master sends."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway_launcher.carriers.table import Manager, carrier_name
from shipway_launcher.dispatches.files import safe_name
from shipway_launcher.errors import WrongRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWish:
    """What somebody wants to have run, as `run --help` describes it."""

    command: Sequence[str]
    name: str | None
    partition: str
    nodes: int
    gpus_per_node: int | None
    gpu_type: str
    amd: bool
    cpus_per_node: int | None
    image: str | None
    runtime: str | None
    environment: Sequence[str]
    mounts: Sequence[str]
    workdir: Path | None
    arguments: Sequence[str]


def make_manifest(wish: JobWish, manager: Manager) -> bytes:
    """Write the manifest.

    Raises:
        WrongRequest: Options do not go together, or are malformed.
    """
    runtime = wish.runtime or ("apptainer" if wish.image else "sandbox")
    if runtime == "sandbox" and wish.image:
        raise WrongRequest("--image: the sandbox runs without an image; choose another --runtime")
    arguments = list(wish.arguments)
    resources: dict[str, Any] = {"instances": {"nodes": wish.nodes}}
    if wish.gpus_per_node:
        resources["gpus"] = {"per-node": wish.gpus_per_node}
        if wish.cpus_per_node:
            arguments.append(f"--cpus-per-task={wish.cpus_per_node}")
    else:
        resources["cores"] = {"per-instance": wish.cpus_per_node or 1}
    is_pbs = manager is Manager.PBS
    payload = {
        "name": wish.name or safe_name(Path(wish.command[0]).name) or "job",
        "carriers": [carrier_name(runtime, manager)],
        "launchParameters": {
            "environment": dict(_variable(text) for text in wish.environment),
            "configuration": _configuration(wish),
            "data": _mounts(wish),
            "images": {"default": wish.image} if wish.image else {},
            "arguments": list(wish.command),
            "custom": {"pbsArgs" if is_pbs else "slurmArgs": arguments},
        },
        "resourceRequirements": resources,
    }
    manifest = {
        "manifestVersion": "v1",
        "clientMetadata": {"name": "shipway-launcher"},
        "payloads": [payload],
    }
    return json.dumps(manifest, ensure_ascii=False).encode("utf-8", "surrogateescape")


def _configuration(wish: JobWish) -> dict[str, str]:
    configuration = {
        "queue": wish.partition,
        "gpuType": wish.gpu_type,
        "workingDir": str(_workdir(wish)),
    }
    if wish.gpus_per_node:
        configuration["enableROCM" if wish.amd else "enableNvidia"] = "true"
    return {key: value for key, value in configuration.items() if value}


def _variable(text: str) -> tuple[str, str]:
    """Read NAME=VALUE; NAME alone stands for its value here."""
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in os.environ:
        raise WrongRequest(f"--env {name}: there is no such variable here; give {name}=VALUE")
    return name, os.environ[name]


def _workdir(wish: JobWish) -> Path:
    return wish.workdir or Path.cwd()


def _mounts(wish: JobWish) -> list[dict[str, Any]]:
    """Read the mounts; the folder to start in is one, or the job could not write into it.

    Where there is an image, only that in which the user stands: another one may be the image's own.
    """
    mounts = [_mount(text) for text in wish.mounts]
    place = _workdir(wish)
    is_covered = any(place.is_relative_to(mount["target"]) for mount in mounts)
    is_of_image = wish.image is not None and wish.workdir is not None
    if not is_covered and not is_of_image and place != Path("/"):
        mounts.insert(0, {"source": str(place), "target": str(place), "readOnly": False})
    return mounts


def _mount(text: str) -> dict[str, Any]:
    source, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if (
        not source.startswith("/")
        or not (target or source).startswith("/")
        or mode not in ("", "ro")
    ):
        raise WrongRequest(f"--mount {text}: must be /SOURCE:/TARGET or /SOURCE:/TARGET:ro")
    return {"source": source, "target": target or source, "readOnly": mode == "ro"}
