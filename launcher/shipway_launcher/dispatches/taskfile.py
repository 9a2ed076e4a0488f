"""The file that tells `shipway-agent job` what to run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from shipway_launcher.errors import WrongRequest
from shipway_launcher.manifest import Manifest

VERSION = 1
TASK_FILE = "task.json"

_DEFAULT_FOLDER = "/var/tmp"  # noqa: S108 (what the master sends, too)


def render_task_file(
    manifest: Manifest,
    *,
    dispatch_id: str,
    runtime: str,
    image: str | None,
    image_root: str | None,
    environment: Mapping[str, str],
    archives_dir: str | None,
    master_url: str | None,
    private_run_dir: bool,
    warning_s: int | None,
    keeps_usr1: bool,
) -> bytes:
    """Write the task file; it holds secrets, so only the job's user may read it.

    Args:
        manifest: What to run.
        dispatch_id: Which dispatch this is.
        runtime: Name of the agent's container runtime.
        image: The image as the manifest names it.
        image_root: Where image files lie, named like the images, on the compute nodes.
        environment: The task's variables as they are to arrive.
        archives_dir: Where the unpacked archives are, on the compute nodes.
        master_url: Where the job's calls to the master go; None: it belongs to none.
        private_run_dir: Whether each node needs its own copy of the archives.
        warning_s: How long before its time limit the workload manager warns the job.
        keeps_usr1: Whether the user chose SIGUSR1 for that, so that the task waits for it.

    Raises:
        WrongRequest: Something in the manifest cannot be.
    """
    configuration = manifest.configuration
    task: dict[str, Any] = {
        "version": VERSION,
        "dispatch_id": dispatch_id,
        "allocation_id": environment.get("DET_ALLOCATION_ID", dispatch_id),
        "name": manifest.payload,
        "runtime": runtime,
        "image": image,
        "image_root": image_root,
        "arguments": list(manifest.arguments),
        "environment": dict(environment),
        "working_dir": configuration.get("workingDir") or _DEFAULT_FOLDER,
        "archives_dir": archives_dir,
        "mounts": [
            {"source": mount.source, "target": mount.target, "read_only": mount.read_only}
            for mount in manifest.mounts
        ],
        "network_mode": configuration.get("networkMode") or "host",
        "ports": list(manifest.ports),
        "devices": _devices(configuration.get("devices", "")),
        "add_capabilities": _names(configuration.get("addCapabilities", "")),
        "drop_capabilities": _names(configuration.get("dropCapabilities", "")),
        "gpu_vendor": _gpu_vendor(configuration),
        "disable_image_cache": _is_true(configuration.get("disableImageCache")),
        "master_url": master_url,
        # The stock shipper, where the manifest begins with it, posts the output itself.
        "ship_logs": not any(word.endswith("/ship-logs.sh") for word in manifest.arguments),
        "private_run_dir": private_run_dir,
        "warning_s": warning_s,
        "keeps_usr1": keeps_usr1,
    }
    return json.dumps(task, indent=1).encode()


def _gpu_vendor(configuration: Mapping[str, str]) -> str | None:
    if _is_true(configuration.get("enableNvidia")):
        return "nvidia"
    return "rocm" if _is_true(configuration.get("enableROCM")) else None


def _is_true(text: str | None) -> bool:
    return (text or "").lower() == "true"


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]+", name):
            raise WrongRequest(f"configuration: {name[:80]!r} is no capability")
    return names


def _devices(text: str) -> list[dict[str, str]]:
    devices: list[dict[str, str]] = []
    for item in filter(None, text.split(",")):
        host, *more = item.split(":")
        if not host.startswith("/") or len(more) > 2:
            raise WrongRequest(f"configuration.devices: {item[:200]!r} is not host:container:mode")
        container, mode = (*more, "", "")[:2]
        device = {"host": host, "container": container or host}
        devices.append(device | ({"mode": mode} if mode else {}))
    return devices
