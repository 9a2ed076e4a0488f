"""Our containers as arguments of `podman create`."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.archives import plan_bindings
from shipway_agent.runtimes.cdi import ALL, cdi_names
from shipway_agent.runtimes.devices import node_groups, rocm_device_nodes
from shipway_agent.runtimes.environment import is_client_name
from shipway_agent.runtimes.spec import ID_LABEL, ContainerSpec


def create_arguments(
    spec: ContainerSpec, tree: Path, environment_file: Path, warn: Callable[[str], None]
) -> list[str]:
    """Return what follows `podman create`, without a name; blocking.

    Variables are named, not given: the caller hands their values over in podman's own environment,
    where nobody reads them; those that podman would heed itself are in *environment_file*.

    Raises:
        SpecUnsupported: Podman cannot give what *spec* asks for.
    """
    arguments = ["--pull", "never", "--log-driver", "none", "--network", spec.network_mode]
    # Else SELinux keeps the task from its own files, which are not labelled for containers.
    arguments += ["--security-opt", "label=disable"]
    for name, value in {**spec.labels, ID_LABEL: spec.id}.items():
        arguments += ["--label", f"{name}={value}"]
    if spec.work_dir:
        arguments += ["--workdir", spec.work_dir]
    arguments += _user_arguments(spec)
    arguments += _port_arguments(spec)
    if spec.shm_size_bytes:
        arguments += ["--shm-size", f"{spec.shm_size_bytes}b"]
    for capability in spec.add_capabilities:
        arguments += ["--cap-add", capability]
    for capability in spec.drop_capabilities:
        arguments += ["--cap-drop", capability]
    arguments += _mount_arguments(spec, tree, warn)
    arguments += _device_arguments(spec)
    arguments += ["--env-file", str(environment_file)]
    for name in named_variables(spec):
        arguments += ["--env", name]
    if spec.entrypoint is not None:
        arguments += ["--entrypoint", json.dumps(list(spec.entrypoint))]
    assert spec.image is not None
    return [*arguments, "--", spec.image, *spec.argv]


def named_variables(spec: ContainerSpec) -> list[str]:
    """Return the variables whose values podman takes from its own environment."""
    return [name for name in spec.environment if not _goes_into_file(name)]


def environment_file_text(spec: ContainerSpec) -> bytes:
    """Return the file with the variables that podman itself must not see.

    Raises:
        SpecUnsupported: The value of one has several lines, which the file has no form for.
    """
    lines: list[str] = []
    for name, value in spec.environment.items():
        if not _goes_into_file(name):
            continue
        if "\n" in value or "\r" in value:
            raise SpecUnsupported(f"environment variable {name!r}: podman takes one line only")
        lines.append(f"{name}={value}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _goes_into_file(name: str) -> bool:
    return is_client_name(name) or name.endswith("*")  # a name's star means all that begin so


def _user_arguments(spec: ContainerSpec) -> list[str]:
    if not spec.user:
        return []
    arguments = ["--user", spec.user]
    uid, _, gid = spec.user.partition(":")
    if os.geteuid() != 0 and uid.isdecimal() and uid != "0":
        # Without root, the files are ours; this makes "ours" the task's user inside.
        arguments += ["--userns", f"keep-id:uid={uid},gid={gid or uid}"]
    return arguments


def _port_arguments(spec: ContainerSpec) -> list[str]:
    if spec.network_mode in {"host", "none"}:
        return []
    arguments = ["--publish-all"] if spec.publish_all_ports else []
    for port in spec.ports:
        arguments += ["--expose", f"{port}/tcp"]
    return arguments


def _mount_arguments(spec: ContainerSpec, tree: Path, warn: Callable[[str], None]) -> list[str]:
    arguments: list[str] = []
    for binding in plan_bindings(tree):
        if binding.is_link:
            warn(f"link {binding.target} is left out: only files and folders can be mounted")
            continue
        arguments += ["--mount", _mount("bind", str(binding.source), binding.target, [])]
    for tmpfs in spec.tmpfs:
        options = [f"tmpfs-mode={tmpfs.mode:o}"]
        if tmpfs.size_bytes:
            options.append(f"tmpfs-size={tmpfs.size_bytes}")
        arguments += ["--mount", _mount("tmpfs", "", tmpfs.target, options)]
    for mount in spec.mounts:
        options = [f"bind-propagation={mount.propagation}"] if mount.propagation else []
        if mount.read_only:
            options.append("ro=true")
        arguments += ["--mount", _mount("bind", mount.source, mount.target, options)]
    return arguments


def _mount(kind: str, source: str, target: str, options: Sequence[str]) -> str:
    """Return a mount as podman reads it: one line of comma-separated values."""
    line = io.StringIO()
    places = [f"source={source}"] if source else []
    fields = [f"type={kind}", *places, f"target={target}", *options]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def _device_arguments(spec: ContainerSpec) -> list[str]:
    devices = [f"{device.host}:{device.container}:{device.mode}" for device in spec.devices]
    nvidia = [gpu for gpu in spec.gpus if gpu.vendor == "nvidia"]
    devices += cdi_names(nvidia) if nvidia else []
    if spec.all_gpus == "nvidia":
        devices.append(ALL)
    nodes = rocm_device_nodes(spec)
    arguments: list[str] = []
    if nodes:
        arguments += ["--security-opt", "seccomp=unconfined"]
        for group in node_groups(nodes) if os.geteuid() == 0 else ["keep-groups"]:
            arguments += ["--group-add", group]
    for device in [*devices, *nodes]:
        arguments += ["--device", device]
    return arguments
