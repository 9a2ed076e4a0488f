"""A task's start as a launcher reads it."""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shipway_master.allocations.ids import ResourcesId
from shipway_master.hpc.arguments import check_sbatch_arguments
from shipway_master.hpc.needs import Needs, SlotType
from shipway_master.tasks.files import RUN_DIR, TaskFile, pack
from shipway_master.tasks.launch import (
    Launch,
    get_image,
    get_user_variables,
    list_account_files,
    list_run_folders,
    list_service_files,
    list_work_files,
    render_base_variables,
)

_CARRIERS = "com.cray.analytics.capsules.carriers.hpc."
_RUNTIMES = {
    "singularity": "Singularity",
    "apptainer": "Singularity",
    "podman": "Podman",
    "enroot": "Enroot",
    "sandbox": "Sandbox",
}


class Unlaunchable(ValueError):
    """The task cannot become a Slurm job; the text says which part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all jobs of one launcher share."""

    runtime: str
    """`container_run_type`."""
    master_url: str
    master_host: str
    master_port: int
    cluster_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where one job goes."""

    partition: str
    slot_type: SlotType
    needs: Needs
    excluded_nodes: Sequence[str] = ()
    """Nodes that it must not run on."""
    rendezvous_interface: str = ""
    proxy_interface: str = ""


def name_payload(label: str) -> str:
    """The payload's name, of which the launcher makes the names of job and logs."""
    return "ai_" + re.sub(r"[^A-Za-z0-9_-]", "", label)


def build_manifest(
    launch: Launch, resources_id: ResourcesId, target: Target, site: Site
) -> Mapping[str, Any]:
    """Build the manifest of a job.

    Raises:
        Unlaunchable: There is no image, or a mount or an option that cannot be had.
    """
    image = get_image(launch, target.slot_type)
    if not image and site.runtime != "sandbox":
        raise Unlaunchable(
            f"no image is configured for slot_type: {target.slot_type} "
            f"(environment.image, needed by {site.runtime})"
        )
    try:
        check_sbatch_arguments(launch.config.slurm.sbatch_args)
    except ValueError as error:
        raise Unlaunchable(f"unable to launch job: {error}") from error
    needs = target.needs
    requirements = {"instances": needs.instances, "cores": needs.cores, "gpus": needs.gpus}
    payload = {
        "name": name_payload(launch.label),
        "id": "com.cray.analytics.capsules.generic.container",
        "version": "latest",
        "carriers": [f"{_CARRIERS}slurm.{_RUNTIMES[site.runtime]}OverSlurm"],
        "launchParameters": {
            "mode": "batch",
            "environment": _build_environment(launch, resources_id, target, site),
            "configuration": _build_configuration(launch, target, site),
            "data": _build_mounts(launch, site),
            "images": {"default": image} if image else {},
            "arguments": list(launch.argv),
            "custom": _build_custom(launch, target, site),
        },
        "resourceRequirements": {key: dict(part) for key, part in requirements.items() if part},
    }
    return {"manifestVersion": "v1", "clientMetadata": {"name": "det"}, "payloads": [payload]}


def _build_environment(
    launch: Launch, resources_id: ResourcesId, target: Target, site: Site
) -> dict[str, str]:
    user = get_user_variables(launch, target.slot_type)
    variables = render_base_variables(launch) | {
        "DET_RESOURCES_ID": resources_id,
        "DET_CONTAINER_ID": "",
        "DET_RESOURCES_TYPE": "slurm-job",
        "SLURM_MPI_TYPE": "pmi2",
    }
    variables |= user
    variables |= {
        "DET_MASTER": site.master_url,
        "DET_MASTER_HOST": site.master_host,
        "DET_MASTER_IP": site.master_host,
        "DET_MASTER_PORT": str(site.master_port),
        "DET_CLUSTER_ID": site.cluster_id,
        "DET_SLOT_TYPE": target.slot_type,
        "DET_SLURM_RENDEZVOUS_IFACE": target.rendezvous_interface,
        "DET_SLURM_PROXY_IFACE": target.proxy_interface,
        "DET_LOCALTMP": "/var/tmp" if site.runtime == "enroot" else "/",  # noqa: S108
        "SLURM_KILL_BAD_EXIT": "1",
    }
    if target.needs.slots_per_container is not None:
        slot_ids = list(range(target.needs.slots_per_container))
        variables["DET_SLOT_IDS"] = json.dumps(slot_ids, separators=(",", ":"))
    if site.runtime == "enroot":
        variables["ENROOT_MOUNT_HOME"] = "y"
    elif not _mounts_on_or_below_tmp(launch):
        variables["DET_CONTAINER_LOCAL_TMP"] = "1"
    registry = launch.config.environment.registry_auth
    if registry is not None:
        for runtime in ("SINGULARITY", "APPTAINER"):
            variables[f"{runtime}_DOCKER_USERNAME"] = registry.username
            variables[f"{runtime}_DOCKER_PASSWORD"] = registry.password
    return variables


def _mounts_on_or_below_tmp(launch: Launch) -> bool:
    targets = (
        posixpath.normpath(posixpath.join(launch.work_dir, mount.container_path))
        for mount in launch.config.bind_mounts
    )
    return any(target == "/tmp" or target.startswith("/tmp/") for target in targets)  # noqa: S108


def _build_configuration(launch: Launch, target: Target, site: Site) -> dict[str, str]:
    environment, slurm = launch.config.environment, launch.config.slurm
    configuration = {
        "workingDir": launch.work_dir,
        "enableWritableTmpFs": "true",
        "exportAll": "true",
        "queue": target.partition,
    }
    if target.slot_type == "cuda":
        configuration["enableNvidia"] = "true"
    if target.slot_type == "rocm":
        configuration["enableROCM"] = "true"
    if site.runtime == "podman":
        configuration["networkMode"] = "host"
    if slurm.gpu_type:
        configuration["gpuType"] = slurm.gpu_type
    if environment.force_pull_image:
        configuration["disableImageCache"] = "true"
    if environment.add_capabilities:
        configuration["addCapabilities"] = ",".join(environment.add_capabilities)
    if environment.drop_capabilities:
        configuration["dropCapabilities"] = ",".join(environment.drop_capabilities)
    if launch.config.resources.devices:
        configuration["devices"] = ",".join(
            f"{device.host_path}:{device.container_path}:{device.mode}"
            for device in launch.config.resources.devices
        )
    return configuration


def _build_mounts(launch: Launch, site: Site) -> list[Mapping[str, Any]]:
    mounts: list[Mapping[str, Any]] = []
    for number, mount in enumerate(launch.config.bind_mounts):
        path = posixpath.normpath(posixpath.join(launch.work_dir, mount.container_path))
        if path == RUN_DIR or path.startswith(RUN_DIR + "/"):
            raise Unlaunchable(
                f"bind_mounts.container_path: {path} not supported. "
                f"HPC launcher cannot mount under {RUN_DIR}"
            )
        mounts.append(
            {
                "name": f"ds{number}",
                "source": mount.host_path,
                "target": path,
                "readOnly": mount.read_only,
            }
        )
    if site.runtime == "enroot" and all(mount["target"] != "/var/tmp" for mount in mounts):  # noqa: S108
        mounts.append({"name": "varTmp", "source": "tmpfs", "target": "/var/tmp:x-create=dir"})  # noqa: S108
    return mounts


def _build_custom(launch: Launch, target: Target, site: Site) -> Mapping[str, Any]:
    sets: Sequence[Sequence[TaskFile]] = (
        list_run_folders(launch),
        list_work_files(launch),
        list_service_files(launch),
        list_account_files(launch),
    )
    arguments = list(dict.fromkeys(launch.config.slurm.sbatch_args))
    if target.excluded_nodes:
        arguments.append(f"--exclude={','.join(target.excluded_nodes)}")
    custom: dict[str, Any] = {
        "Archives": [_encode(files) for files in sets if files],
        "slurmArgs": arguments or None,
        "pbsArgs": None,
    }
    ports = [
        str(port)
        for name, port in launch.config.environment.ports.items()
        if name.lower().startswith("podman")
    ]
    if site.runtime == "podman" and ports:
        custom["ports"] = ports
    return custom


def _encode(files: Sequence[TaskFile]) -> str:
    relative = [replace(file, path=file.path.lstrip("/")) for file in files]
    return base64.b64encode(pack(relative)).decode()


def build_query(kind: str) -> Mapping[str, Any]:
    """Build the manifest of a query: `resources` or `queue`."""
    name = {"resources": "DAI-HPC-Resources", "queue": "DAI-HPC-Queues"}[kind]
    suffix = kind.capitalize()
    return {
        "manifestVersion": "v1",
        "clientMetadata": {"name": name},
        "payloads": [
            {
                "name": name,
                "id": f"com.cray.analytics.capsules.hpc.{kind}",
                "version": "latest",
                "carriers": [f"{_CARRIERS}slurm.Slurm{suffix}", f"{_CARRIERS}pbs.Pbs{suffix}"],
                "launchParameters": {"mode": "interactive" if kind == "resources" else "batch"},
            }
        ],
    }
