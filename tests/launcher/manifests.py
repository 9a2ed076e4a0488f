"""Builders of manifests as the master sends them."""

from __future__ import annotations

import base64
import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

SLURM = "com.cray.analytics.capsules.carriers.hpc.slurm."


def make_manifest(
    arguments: Sequence[str] = ("/bin/true",),
    *,
    carrier: str = "SandboxOverSlurm",
    payload: str = "ai_cmd-9d0c7a3e",
    environment: Mapping[str, str] | None = None,
    configuration: Mapping[str, str] | None = None,
    slurm_arguments: Sequence[str] | None = ("--mem=50",),
    pbs_arguments: Sequence[str] | None = None,
    archives: Sequence[str] = (),
    image: str | None = None,
    data: Sequence[Mapping[str, Any]] = (),
    resources: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return a manifest in the form of the contract's examples."""
    return {
        "manifestVersion": "v1",
        "clientMetadata": {"name": "det"},
        "payloads": [
            {
                "name": payload,
                "id": "com.cray.analytics.capsules.generic.container",
                "version": "latest",
                "carriers": [carrier if "." in carrier else SLURM + carrier],
                "launchParameters": {
                    "mode": "batch",
                    "environment": {
                        "DET_MASTER": "http://127.0.0.1:9",
                        "DET_MASTER_HOST": "127.0.0.1",
                        "DET_MASTER_IP": "127.0.0.1",
                        "DET_MASTER_PORT": "9",
                        "DET_USE_TLS": "false",
                        "DET_SESSION_TOKEN": "v2.public.session-token",
                        "DET_USER_TOKEN": "v2.public.user-token",
                        "DET_ALLOCATION_ID": "9d0c7a3e.1",
                        "DET_TASK_ID": "9d0c7a3e",
                        "DET_SLOT_TYPE": "cpu",
                        "DET_RESOURCES_TYPE": "slurm-job",
                        "SLURM_KILL_BAD_EXIT": "1",
                        "SLURM_MPI_TYPE": "pmi2",
                        **(environment or {}),
                    },
                    "configuration": {
                        "enableWritableTmpFs": "true",
                        "exportAll": "true",
                        "queue": "gpu",
                        "workingDir": "/var/tmp",
                        **(configuration or {}),
                    },
                    "data": list(data),
                    "images": {} if image is None else {"default": image},
                    "arguments": list(arguments),
                    "custom": {
                        "Archives": list(archives),
                        "pbsArgs": None if pbs_arguments is None else list(pbs_arguments),
                        "slurmArgs": None if slurm_arguments is None else list(slurm_arguments),
                    },
                },
                "resourceRequirements": resources
                or {"instances": {"nodes": 1}, "cores": {"per-node": 1}},
            }
        ],
    }


def make_query(purpose: str) -> dict[str, Any]:
    """Return the query for `Resources` or `Queues`."""
    name = f"DAI-HPC-{purpose}"
    slurm, pbs = {
        "Resources": ("SlurmResources", "PbsResources"),
        "Queues": ("SlurmQueue", "PbsQueue"),
    }[purpose]
    return {
        "manifestVersion": "v1",
        "clientMetadata": {"name": name},
        "payloads": [
            {
                "name": name,
                "id": "com.cray.analytics.capsules.hpc.resources",
                "version": "latest",
                "carriers": [SLURM + slurm, SLURM.replace("slurm", "pbs") + pbs],
                "launchParameters": {"mode": "interactive"},
            }
        ],
    }


def make_archive(*members: tarfile.TarInfo | tuple[str, bytes, int]) -> str:
    """Return a base64 gzip tar of files (name, content, mode), or of whatever headers are given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            name, content, mode = member
            header = tarfile.TarInfo(name)
            header.size, header.mode = len(content), mode
            archive.addfile(header, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def header(name: str, kind: bytes, *, mode: int = 0o755, target: str = "") -> tarfile.TarInfo:
    """Return the header of a folder, a link or something worse."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    return info
