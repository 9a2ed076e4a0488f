"""Our containers in the words of Podman's own API.

Its copy of Docker's API drops requests for GPUs without a word, reads mounts by their commas and
colons, and makes folders where a mount's source is missing.
"""

from __future__ import annotations

import os

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.archives import plan_bindings
from shipway_agent.runtimes.cdi import ALL, cdi_names
from shipway_agent.runtimes.devices import node_groups, rocm_device_nodes, without_nvidia
from shipway_agent.runtimes.dockerforms import Json, labels_of
from shipway_agent.runtimes.engineinfo import EngineInfo
from shipway_agent.runtimes.spec import ContainerSpec


def podman_body(name: str, spec: ContainerSpec, info: EngineInfo) -> Json:
    """Return what to send to make a container; blocking.

    Raises:
        SpecUnsupported: Podman cannot give what *spec* asks for.
    """
    body: Json = {
        "name": name,
        "image": spec.image,
        "command": list(spec.argv),
        "env": without_nvidia(spec),
        "work_dir": spec.work_dir,
        "create_working_dir": True,
        "user": spec.user or "",
        "labels": labels_of(spec),
        "mounts": _mounts(spec),
        "devices": [{"path": path} for path in _devices(spec, info)],
        "cap_add": list(spec.add_capabilities),
        "cap_drop": list(spec.drop_capabilities),
        "log_configuration": {"driver": "k8s-file"},
        "init": info.has_init,
        "remove": spec.auto_remove,
        # Else SELinux keeps the task from its own files, which are not labelled for containers.
        "selinux_opts": ["disable"],
        **_network(spec, info),
    }
    if spec.entrypoint is not None:
        body["entrypoint"] = list(spec.entrypoint)
    if spec.shm_size_bytes:
        body["shm_size"] = spec.shm_size_bytes
    if nodes := rocm_device_nodes(spec):
        body["seccomp_profile_path"] = "unconfined"
        body["groups"] = ["keep-groups"] if info.is_rootless else node_groups(nodes)
    return {**body, **_user_namespace(spec, info)}


def _network(spec: ContainerSpec, info: EngineInfo) -> Json:
    kind, _, value = spec.network_mode.partition(":")
    if kind in {"host", "none"}:
        return {"netns": {"nsmode": kind}}
    if kind == "container":
        return {"netns": {"nsmode": kind, "value": value}}
    wanted: Json = {
        "expose": {str(port): "tcp" for port in spec.ports},
        "publish_image_ports": spec.publish_all_ports,
    }
    if kind not in {"", "default", "bridge"}:
        wanted["networks"] = {spec.network_mode: {}}
    elif info.is_rootless:
        return wanted  # which has a network of its own kind in place of a bridge
    return {"netns": {"nsmode": "bridge"}, **wanted}


def _user_namespace(spec: ContainerSpec, info: EngineInfo) -> Json:
    """Make the user of a Podman without root, whose files mounts are, the task's user inside."""
    uid, _, gid = (spec.user or "").partition(":")
    if not info.is_rootless or not uid.isdecimal() or uid == "0":
        return {}
    return {"userns": {"nsmode": "keep-id", "value": f"uid={uid},gid={gid or uid}"}}


def _mounts(spec: ContainerSpec) -> list[Json]:
    mounts: list[Json] = []
    for mount in spec.mounts:
        if not os.path.exists(mount.source):
            raise SpecUnsupported(f"bind mount {mount.source}: there is no such path on this host")
        options = ["rbind", mount.propagation or "rprivate", *(["ro"] if mount.read_only else [])]
        mounts.append(_mount("bind", mount.target, options, source=mount.source))
    for tmpfs in spec.tmpfs:
        options = [f"mode={tmpfs.mode:o}"]
        if tmpfs.size_bytes:
            options.append(f"size={tmpfs.size_bytes}")
        mounts.append(_mount("tmpfs", tmpfs.target, options))
    if spec.tree is not None:
        mounts += [
            _mount("bind", binding.target, ["rbind"], source=str(binding.source))
            for binding in plan_bindings(spec.tree)
            if not binding.is_link
        ]
    return mounts


def _mount(kind: str, target: str, options: list[str], *, source: str = "") -> Json:
    named = {"source": source} if source else {}
    return {"type": kind, "destination": target, "options": options, **named}


def _devices(spec: ContainerSpec, info: EngineInfo) -> list[str]:
    devices = [f"{device.host}:{device.container}:{device.mode}" for device in spec.devices]
    gpus = [gpu for gpu in spec.gpus if gpu.vendor == "nvidia"]
    if gpus:
        devices += cdi_names(gpus, info.cdi_folders)
    if spec.all_gpus == "nvidia":
        devices.append(ALL)
    return [*devices, *rocm_device_nodes(spec)]
