"""Our containers in the words of Docker's API, and its answers in ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shipway_agent.runtimes.archives import plan_bindings
from shipway_agent.runtimes.cdi import ALL, cdi_names
from shipway_agent.runtimes.devices import node_groups, rocm_device_nodes, without_nvidia
from shipway_agent.runtimes.engineinfo import EngineInfo
from shipway_agent.runtimes.processes import identify
from shipway_agent.runtimes.spec import (
    ID_LABEL,
    Address,
    ContainerHandle,
    ContainerId,
    ContainerSpec,
    ContainerState,
    Exit,
    Owned,
    Processes,
)

Json = dict[str, Any]

_UNKNOWN_STATUS = 255  # of containerd, and Docker passes it on
_NO_OWN_IP = "0.0.0.0"  # noqa: S104 (not bound)
"""Of a container in a network of a user without rights: nobody else reaches the one it has."""

_PORTS_LABEL = "shipway.ports"

# Keeps the bytes as they are (json-file replaces what is no UTF-8) and, with one file that is never
# full, all of them: an offset into the output stays true.
_log_config = {
    "Type": "local",
    "Config": {"max-size": "1000t", "max-file": "1", "compress": "false"},
}

_states = {
    "created": ContainerState.CREATED,
    "configured": ContainerState.CREATED,
    "initialized": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "paused": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "stopping": ContainerState.RUNNING,
    "exited": ContainerState.EXITED,
    "stopped": ContainerState.EXITED,
    "dead": ContainerState.EXITED,
    "removing": ContainerState.EXITED,
}


def create_body(spec: ContainerSpec, info: EngineInfo) -> Json:
    """Return what to send to make a container; blocking.

    Raises:
        SpecUnsupported: The engine cannot give what *spec* asks for.
    """
    environment = without_nvidia(spec)
    return {
        "Image": spec.image,
        "Cmd": list(spec.argv) or None,
        "Entrypoint": None if spec.entrypoint is None else list(spec.entrypoint),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "WorkingDir": spec.work_dir,
        "User": spec.user or "",
        "Labels": labels_of(spec),
        "ExposedPorts": {f"{port}/tcp": {} for port in spec.ports},
        "HostConfig": _host_config(spec, info),
    }


def labels_of(spec: ContainerSpec) -> dict[str, str]:
    """Return the labels by which the container is found, and what it is found to be."""
    ports = " ".join(str(port) for port in spec.ports)
    return {**spec.labels, ID_LABEL: spec.id, _PORTS_LABEL: ports}


def state_of(inspected: Json) -> ContainerState:
    """Return how far an inspected container is; a state nobody knows means that it may run."""
    status = str(inspected["State"].get("Status", "")).lower()
    return _states.get(status, ContainerState.RUNNING)


def processes_of(inspected: Json) -> Processes | None:
    """Find the processes of an inspected container of this host; None if there are none."""
    pid = inspected["State"].get("Pid")
    first = identify(pid) if isinstance(pid, int) and pid > 0 else None
    return Processes(first=first) if first is not None else None


def exit_of(inspected: Json) -> Exit:
    """Return how an inspected container ended.

    An engine's exit status does not tell a signal from a program that exits with 128 + its number.
    """
    state: Json = inspected["State"]
    return Exit(
        code=int(state["ExitCode"]),
        out_of_memory=bool(state.get("OOMKilled")),
        reason=str(state.get("Error") or ""),
    )


def doubt_after_outage(ended: Exit) -> Exit:
    """Add what an exit status may mean of an engine that was away when the container ended.

    Docker says 255 of a container that ends while it is being stopped, whatever the truth.
    """
    if ended.code != _UNKNOWN_STATUS or ended.reason:
        return ended
    return replace(
        ended,
        reason="the engine was away meanwhile, and says 255 also when it does not know the status",
    )


def addresses_of(inspected: Json) -> tuple[Address, ...]:
    """Return where the ports of an inspected container can be reached."""
    if inspected["HostConfig"].get("NetworkMode") == "host":
        config: Json = inspected["Config"]
        exposed: Mapping[str, Any] = config.get("ExposedPorts") or {}
        # Podman's answer lacks them, but has the label.
        labels: Mapping[str, str] = config.get("Labels") or {}
        told = labels.get(_PORTS_LABEL, "").split()
        ports = {_port(name) for name in exposed} | {int(text) for text in told}
        return host_addresses(sorted(ports))
    settings: Json = inspected["NetworkSettings"]
    networks: Mapping[str, Json] = settings.get("Networks") or {}
    container_ips = [
        ip
        for network in networks.values()
        if (ip := network.get("IPAddress") or network.get("GlobalIPv6Address"))
    ] or [_NO_OWN_IP]
    bindings: Mapping[str, Sequence[Json] | None] = settings.get("Ports") or {}
    return tuple(
        Address(
            container_ip=container_ip,
            container_port=_port(name),
            host_ip=str(binding.get("HostIp") or "0.0.0.0"),  # noqa: S104 (what "" means here)
            host_port=int(binding["HostPort"]),
        )
        for name, published in sorted(bindings.items())
        for binding in published or ()
        for container_ip in container_ips
    )


def host_addresses(ports: Iterable[int]) -> tuple[Address, ...]:
    """Return where *ports* are on the host's own network: there."""
    return tuple(
        Address(container_ip="", container_port=port, host_ip="", host_port=port) for port in ports
    )


def owned_of(inspected: Json) -> Owned:
    """Return an inspected container of ours."""
    labels: Mapping[str, str] = inspected["Config"]["Labels"]
    container_id = ContainerId(labels[ID_LABEL])
    state = state_of(inspected)
    return Owned(
        handle=ContainerHandle(container_id=container_id, native_id=inspected["Id"]),
        container_id=container_id,
        state=state,
        exit=exit_of(inspected) if state is ContainerState.EXITED else None,
        labels=dict(labels),
        addresses=addresses_of(inspected) if state is ContainerState.RUNNING else (),
    )


def _host_config(spec: ContainerSpec, info: EngineInfo) -> Json:
    config: Json = {
        "NetworkMode": spec.network_mode,
        "Mounts": _mounts(spec),
        "PublishAllPorts": spec.publish_all_ports,
        "CapAdd": list(spec.add_capabilities),
        "CapDrop": list(spec.drop_capabilities),
        "Devices": [_device(node.host, node.container, node.mode) for node in spec.devices],
        "DeviceRequests": _nvidia_requests(spec, info),
        "AutoRemove": spec.auto_remove,
        "LogConfig": _log_config,
    }
    if info.has_init:
        config["Init"] = True
    if spec.shm_size_bytes:
        config["ShmSize"] = spec.shm_size_bytes
    if nodes := rocm_device_nodes(spec):
        config["Devices"] += [_device(node, node, "rwm") for node in nodes]
        config["SecurityOpt"] = ["seccomp=unconfined"]
        config["GroupAdd"] = node_groups(nodes)
    return config


def _nvidia_requests(spec: ContainerSpec, info: EngineInfo) -> list[Json]:
    gpus = [gpu for gpu in spec.gpus if gpu.vendor == "nvidia"]
    if not gpus and spec.all_gpus != "nvidia":
        return []
    if info.nvidia_by == "cdi":
        names = cdi_names(gpus, info.cdi_folders) if gpus else [ALL]
        return [{"Driver": "cdi", "DeviceIDs": names}]
    return [
        {
            "Driver": "nvidia",
            "Count": 0 if gpus else -1,
            "DeviceIDs": [gpu.uuid for gpu in gpus] or None,
            "Capabilities": [["gpu", "compute", "utility"]],
            "Options": None,
        }
    ]


def _mounts(spec: ContainerSpec) -> list[Json]:
    mounts: list[Json] = [
        {
            "Type": "bind",
            "Source": mount.source,
            "Target": mount.target,
            "ReadOnly": mount.read_only,
            "BindOptions": {"Propagation": mount.propagation},
        }
        for mount in spec.mounts
    ]
    mounts += [
        {
            "Type": "tmpfs",
            "Target": tmpfs.target,
            "TmpfsOptions": {"SizeBytes": tmpfs.size_bytes or 0, "Mode": tmpfs.mode},
        }
        for tmpfs in spec.tmpfs
    ]
    if spec.tree is not None:
        mounts += [
            {"Type": "bind", "Source": str(binding.source), "Target": binding.target}
            for binding in plan_bindings(spec.tree)
            if not binding.is_link
        ]
    return mounts


def _device(host: str, container: str, mode: str) -> Json:
    return {"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": mode}


def _port(name: str) -> int:
    return int(name.partition("/")[0])
