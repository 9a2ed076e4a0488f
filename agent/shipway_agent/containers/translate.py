"""From a start order, which carries Docker's own settings, to what a runtime needs."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

from shipway_agent.errors import StartRefused, UnreadableMessage
from shipway_agent.master.messages import Container, StartContainer
from shipway_agent.master.reading import JsonObject
from shipway_agent.runtimes.spec import (
    Archive,
    ArchiveItem,
    ContainerSpec,
    Device,
    Gpu,
    GpuVendor,
    ItemKind,
    Mount,
    RegistryAuth,
    Tmpfs,
)

_item_kinds: Mapping[int, ItemKind] = {
    ord("0"): ItemKind.FILE,
    ord("5"): ItemKind.DIRECTORY,
    ord("2"): ItemKind.SYMLINK,
}
_vendors: Mapping[str, GpuVendor] = {"cuda": "nvidia", "rocm": "rocm"}
_id_form = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def translate(
    order: StartContainer,
    *,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    pci_buses: Mapping[str, str],
) -> ContainerSpec:
    """Make the spec of a container. A big order takes its time: base64 of megabytes.

    Args:
        environment: The whole environment, see `read_environment`.
        labels: All labels.
        pci_buses: By UUID, for the devices that have one.

    Raises:
        StartRefused: The order asks for something that is not understood; names it.
    """
    try:
        return _translate(order, environment, labels, pci_buses)
    except UnreadableMessage as error:
        raise StartRefused(f"the order cannot be read: {error}") from error


def read_environment(order: StartContainer) -> dict[str, str]:
    """Read the ordered environment; of two values of one name the last counts.

    Raises:
        StartRefused: It is not a list of texts.
    """
    try:
        entries = _config(order).texts("Env") or []
    except UnreadableMessage as error:
        raise StartRefused(f"the order cannot be read: {error}") from error
    pairs = (entry.partition("=") for entry in entries)
    # A name without "=" would take the value out of the environment of whoever runs the container.
    return {name: value for name, equals, value in pairs if equals}


def check_id(container: Container) -> None:
    """Refuse an id that could not name a file.

    Raises:
        StartRefused: It has other characters than letters, digits, dots, underscores and hyphens.
    """
    if not _id_form.fullmatch(container.id):
        raise StartRefused(
            f"container id {container.id!r} is not of letters, digits, '.', '_', '-'"
        )


def _config(order: StartContainer) -> JsonObject:
    return order.spec.section("RunSpec").section("ContainerConfig")


def _translate(
    order: StartContainer,
    environment: Mapping[str, str],
    labels: Mapping[str, str],
    pci_buses: Mapping[str, str],
) -> ContainerSpec:
    config = _config(order)
    run = order.spec.section("RunSpec")
    host = run.section("HostConfig")
    pull = order.spec.section("PullSpec")
    entrypoint = config.texts("Entrypoint")
    return ContainerSpec(
        id=order.container.id,
        name=order.container.description,
        image=config.text("Image") or None,
        argv=tuple(config.texts("Cmd") or ()),
        entrypoint=None if entrypoint is None else tuple(entrypoint),
        environment=environment,
        work_dir=config.text("WorkingDir"),
        user=config.text("User") or None,
        mounts=_mounts(host),
        tmpfs=_tmpfs(host),
        archives=_archives(run),
        ports=_ports(config),
        publish_all_ports=host.flag("PublishAllPorts"),
        network_mode=host.text("NetworkMode") or "bridge",
        shm_size_bytes=host.integer("ShmSize") or None,
        devices=_devices(host),
        add_capabilities=tuple(host.texts("CapAdd") or ()),
        drop_capabilities=tuple(host.texts("CapDrop") or ()),
        gpus=tuple(
            Gpu(
                uuid=device.uuid,
                vendor=_vendors[device.type],
                pci_bus=pci_buses.get(device.uuid),
                index=device.id,
            )
            for device in order.container.devices or ()
            if device.type in _vendors
        ),
        labels=labels,
        registry_auth=_registry_auth(pull.child("Registry")),
        force_pull=pull.flag("ForcePull"),
    )


def _mounts(host: JsonObject) -> tuple[Mount, ...]:
    mounts = [_bind(text) for text in host.texts("Binds") or []]
    for mount in host.objects("Mounts") or []:
        kind = mount.text("Type")
        if kind == "tmpfs":
            continue
        if kind != "bind":
            raise StartRefused(
                f"{mount.path_to('Type')}: only bind and tmpfs mounts can be had, not {kind}"
            )
        propagation = mount.section("BindOptions").text("Propagation")
        mounts.append(
            Mount(
                source=mount.text("Source"),
                target=mount.text("Target"),
                read_only=mount.flag("ReadOnly"),
                propagation=propagation or "rprivate",
            )
        )
    return tuple(mounts)


def _tmpfs(host: JsonObject) -> tuple[Tmpfs, ...]:
    found = [
        _tmpfs_of(target, host.section("Tmpfs").text(target)) for target in host.names("Tmpfs")
    ]
    for mount in host.objects("Mounts") or []:
        if mount.text("Type") == "tmpfs":
            options = mount.section("TmpfsOptions")
            found.append(
                Tmpfs(
                    target=mount.text("Target"),
                    size_bytes=options.integer("SizeBytes") or None,
                    mode=options.integer("Mode") & 0o7777 or 0o1777,
                )
            )
    return tuple(found)


def _tmpfs_of(target: str, options: str) -> Tmpfs:
    """Read options as mount takes them; those beside size and mode are the runtime's own."""
    pairs = (option.partition("=") for option in options.split(","))
    values = {name: value for name, _, value in pairs}
    size = re.fullmatch(r"([0-9]+)([kmg]?)b?", values.get("size", "0").lower())
    mode = values.get("mode", "1777")
    if size is None or not re.fullmatch(r"[0-7]{1,4}", mode):
        raise StartRefused(f"HostConfig.Tmpfs: {target!r} has a size or mode that is none")
    factor = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[size[2]]
    return Tmpfs(target=target, size_bytes=int(size[1]) * factor or None, mode=int(mode, 8))


def _bind(text: str) -> Mount:
    source, _, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not source.startswith("/") or not target:
        raise StartRefused(f"HostConfig.Binds: {text!r} is not /source:/target[:options]")
    words = options.split(",")
    propagations = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}
    chosen = [word for word in words if word in propagations]
    return Mount(
        source=source,
        target=target,
        read_only="ro" in words,
        propagation=chosen[0] if chosen else "rprivate",
    )


def _devices(host: JsonObject) -> tuple[Device, ...]:
    return tuple(
        Device(
            host=device.text("PathOnHost"),
            container=device.text("PathInContainer") or device.text("PathOnHost"),
            mode=device.text("CgroupPermissions") or "mrw",
        )
        for device in host.objects("Devices") or []
    )


def _ports(config: JsonObject) -> tuple[int, ...]:
    ports: list[int] = []
    for name in config.names("ExposedPorts"):
        number, _, protocol = name.partition("/")
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
            raise StartRefused(f"{config.path_to('ExposedPorts')}: {name!r} is no port")
        if protocol in {"", "tcp"}:
            ports.append(int(number))
    return tuple(sorted(set(ports)))


def _archives(run: JsonObject) -> tuple[Archive, ...]:
    return tuple(
        Archive(
            path=archive.text("Path") or "/",
            items=tuple(_item(item) for item in archive.objects("Archive") or []),
        )
        for archive in run.objects("Archives") or []
    )


def _item(item: JsonObject) -> ArchiveItem:
    kind = _item_kinds.get(item.integer("type"))
    if kind is None:
        raise StartRefused(f"{item.path_to('type')}: {item.integer('type')} is no known type")
    try:
        content = base64.b64decode(item.text("content"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise StartRefused(f"{item.path_to('content')} is no base64: {error}") from error
    return ArchiveItem(
        path=item.text("path"),
        kind=kind,
        content=content,
        mode=item.integer("mode") & 0o7777,
        uid=item.integer("uid"),
        gid=item.integer("gid"),
        mtime=item.integer("mtime"),
    )


def _registry_auth(auth: JsonObject | None) -> RegistryAuth | None:
    if auth is None:
        return None
    return RegistryAuth(
        username=auth.text("username"),
        password=auth.text("password"),
        server_address=auth.text("serveraddress"),
        identity_token=auth.text("identitytoken"),
        registry_token=auth.text("registrytoken"),
        auth=auth.text("auth"),
        email=auth.text("email"),
    )
