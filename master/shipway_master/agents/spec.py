"""A task's start as an agent reads it: Docker's own structures, filled in."""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from shipway_master.agents.devices import Device
from shipway_master.agents.messages import StartOrder
from shipway_master.allocations.ids import ResourcesId
from shipway_master.allocations.rendezvous import RENDEZVOUS_PORTS
from shipway_master.tasks.files import TaskFile
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

DEFAULT_SHM_BYTES = 4 * 2**30


def build_start_order(
    launch: Launch, container_id: ResourcesId, devices: Sequence[Device], *, agents: int
) -> StartOrder:
    """Build the order for one container.

    Args:
        devices: The slots it sits on, as the agent named them.
        agents: Over how many agents the allocation spans; with more than one its containers must
            reach each other, so they share their hosts' network.
    """
    device_type = devices[0].type if devices else "cpu"
    environment = launch.config.environment
    registry = environment.registry_auth
    registry_auth = (
        None
        if registry is None
        else {key: value for key, value in registry.model_dump().items() if value}
    )
    ports = sorted({*environment.ports.values(), *_list_proxy_ports(launch)})
    if launch.task_type in ("GENERIC", "TRIAL"):
        ports = sorted({*ports, RENDEZVOUS_PORTS.start})
    spec: dict[str, Any] = {
        "TaskType": launch.task_type,
        "PullSpec": {"ForcePull": environment.force_pull_image, "Registry": registry_auth},
        "RunSpec": {
            "ContainerConfig": {
                "User": f"{launch.agent_user.uid}:{launch.agent_user.gid}",
                "Env": _list_variables(launch, container_id, device_type),
                "Cmd": list(launch.argv),
                "Image": get_image(launch, device_type),
                "WorkingDir": launch.work_dir,
                "Entrypoint": None,
                "Labels": None,
                **({"ExposedPorts": {f"{port}/tcp": {} for port in ports}} if ports else {}),
            },
            "HostConfig": _build_host_config(launch, agents),
            "NetworkingConfig": {"EndpointsConfig": None},
            "Archives": _build_archives(launch),
            "DeviceType": device_type,
            "Registry": registry_auth,
        },
    }
    return StartOrder(devices=tuple(devices), description=launch.label, spec=spec)


def _list_proxy_ports(launch: Launch) -> list[int]:
    equipment = launch.equipment
    own = [] if equipment is None or equipment.port is None else [equipment.port]
    return [*own, *(port.proxy_port for port in launch.config.environment.proxy_ports)]


def _list_variables(launch: Launch, container_id: ResourcesId, device_type: str) -> list[str]:
    variables = render_base_variables(launch) | {
        "DET_RESOURCES_ID": container_id,
        "DET_CONTAINER_ID": container_id,
        "DET_RESOURCES_TYPE": "docker-container",
    }
    variables |= get_user_variables(launch, device_type)
    return [f"{name}={value}" for name, value in variables.items()]


def _build_host_config(launch: Launch, agents: int) -> Mapping[str, Any]:
    environment, resources = launch.config.environment, launch.config.resources
    return {
        "NetworkMode": "host" if agents > 1 else launch.tcd.network_mode,
        "PublishAllPorts": True,
        "ShmSize": DEFAULT_SHM_BYTES if resources.shm_size is None else resources.shm_size,
        "CapAdd": list(environment.add_capabilities) or None,
        "CapDrop": list(environment.drop_capabilities) or None,
        "Devices": [
            {
                "PathOnHost": device.host_path,
                "PathInContainer": device.container_path,
                "CgroupPermissions": device.mode,
            }
            for device in resources.devices
        ],
        "Mounts": [
            {
                "Type": "bind",
                "Source": mount.host_path,
                "Target": posixpath.join(launch.work_dir, mount.container_path),
                **({"ReadOnly": True} if mount.read_only else {}),
                "BindOptions": {"Propagation": mount.propagation},
            }
            for mount in launch.config.bind_mounts
        ],
    }


def _build_archives(launch: Launch) -> list[Mapping[str, Any]]:
    sets = [
        (list_run_folders(launch), False),
        (list_work_files(launch), False),
        (list_service_files(launch), False),
        (list_account_files(launch), True),
    ]
    return [
        {
            "Path": "/",
            "Archive": [_build_item(file, is_root=is_root) for file in files],
            "CopyOptions": {"AllowOverwriteDirWithFile": False, "CopyUIDGID": False},
        }
        for files, is_root in sets
        if files
    ]


def _build_item(file: TaskFile, *, is_root: bool) -> Mapping[str, Any]:
    return {
        "path": file.path,
        "type": file.type,
        "content": base64.b64encode(file.content).decode(),
        "mode": file.mode,
        "mtime": file.mtime,
        "uid": file.uid,
        "gid": file.gid,
        "isRootItem": is_root,
    }
