"""A container's spec as what enroot reads: arguments, a configuration, mounts and a first script.

Enroot keeps a container's environment in a file of lines from which it cuts quotes and blanks, and
takes mounts apart at colons and blanks. So the environment goes in by the script that enroot runs
as the container's first, and mounts by a file in the form of fstab, which knows escapes.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from shipway_agent.errors import PullFailed, SpecUnsupported
from shipway_agent.runtimes.archives import plan_bindings
from shipway_agent.runtimes.devices import gpu_nodes, limiting_variables
from shipway_agent.runtimes.environment import DEFAULT_PATH
from shipway_agent.runtimes.imagenames import HUB, ImageName
from shipway_agent.runtimes.localtmp import replaces_tmp
from shipway_agent.runtimes.spec import ContainerSpec, RegistryAuth

TEMPORARY = "tmp"
"""A folder of the container's own, below its folder on the host."""

_FSTAB_LINE_LIMIT_BYTES = 4095
_hub_registry = "registry-1.docker.io"
_identifier = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_for_hooks = re.compile(r"(?:NVIDIA|MELLANOX)_[A-Z0-9_]*")
_own_tmp = ("/tmp", "/var/tmp")  # noqa: S108 (of the container)
_propagations = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})


def container_name(image: str) -> str:
    """Return the name under which a user makes a container of *image* for tasks to use."""
    return re.sub("[/:]", "+", image)


def import_uri(name: ImageName) -> str:
    """Return an image's name as `enroot import` takes it, with its registry told apart."""
    registry = _hub_registry if name.domain == HUB else name.domain
    return f"docker://{registry}#{name.path}:{name.version}"


def credentials_file(name: ImageName, auth: RegistryAuth) -> bytes:
    """Return the credentials in the form of enroot's `.credentials`.

    The second line is for the server that gives out the registry's tokens, whatever its name.

    Raises:
        PullFailed: The form cannot hold them.
    """
    registry = _hub_registry if name.domain == HUB else name.domain
    user, password = auth.username, auth.password
    if auth.identity_token or auth.registry_token or not (user and password):
        raise PullFailed(f"image {name}: enroot needs a user name and a password, not a token")
    # A password that begins with $ is given to a shell.
    if re.search(r"\s", user + password) or password.startswith("$"):
        raise PullFailed(
            f"image {name}: enroot takes no user name or password with blanks in it, and no"
            " password that begins with $"
        )
    login = f"login {user} password {password}"
    return f"machine {registry.partition(':')[0]} {login}\ndefault {login}\n".encode()


def first_script(spec: ContainerSpec, mark: str) -> bytes:
    """Return the script that enroot runs first in the container; it ends as the task's program.

    Args:
        spec: The container.
        mark: Written to stderr at once: whatever comes before is enroot's own.

    Raises:
        SpecUnsupported: A name that a shell cannot export.
    """
    lines = [
        f"printf %s {shlex.quote(mark)} >&2",
        'case $0 in /proc/self/fd/[0-9]) eval "exec ${0##*/}<&-" ;; esac',
    ]
    for name, value in {**limiting_variables(spec), **spec.environment}.items():
        if not _identifier.fullmatch(name):
            raise SpecUnsupported(
                f"environment variable {name!r}: enroot passes only names of letters, digits and"
                " underscores"
            )
        lines.append(f"export {name}={shlex.quote(value)}")
    lines += [
        f'[ -n "${{PATH-}}" ] || export PATH={DEFAULT_PATH}',
        '[ -n "${HOME+set}" ] || { [ -w /root ] && export HOME=/root || export HOME=/; }',
    ]
    folder = shlex.quote(spec.work_dir)
    if spec.work_dir:
        lines.append(f"mkdir -p {folder} 2>/dev/null")
    if spec.entrypoint is None:
        # The image's own script goes to the image's folder and on to its entry point.
        goes = f"cd() {{ command cd {folder}; }}; " if spec.work_dir else ""
        lines.append(f"if [ -f /etc/rc ]; then {goes}. /etc/rc; exit; fi")
    lines.append(f"cd {folder or '/'} || exit 126" if spec.work_dir else "cd /")
    lines.append('exec "$@"')
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def configuration(spec: ContainerSpec, fstab: Path) -> bytes:
    """Return the configuration: variables for the hooks that give GPUs, and where the mounts are."""
    variables = {**gpu_hook_variables(spec), **spec.environment}
    lines = [
        f"echo {shlex.quote(f'{name}={value}')}"
        for name, value in variables.items()
        if _for_hooks.fullmatch(name) and "\n" not in value
    ]
    text = "\n".join(
        ["environ() {", *(lines or [":"]), "}", "mounts() {", f"cat {shlex.quote(str(fstab))}", "}"]
    )
    return (text + "\n").encode("utf-8", "surrogateescape")


def gpu_hook_variables(spec: ContainerSpec) -> Mapping[str, str]:
    """Return what tells NVIDIA's hook which GPUs to give; none, if the image asks for them."""
    gpu_nodes(spec)  # refuses what this host does not have
    nvidia = [gpu.uuid for gpu in spec.gpus if gpu.vendor == "nvidia"]
    if spec.all_gpus == "nvidia":
        nvidia = ["all"]
    if not nvidia:
        return {"NVIDIA_VISIBLE_DEVICES": "void"}
    return {
        "NVIDIA_VISIBLE_DEVICES": ",".join(nvidia),
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    }


def mount_table(
    spec: ContainerSpec, folder: Path, tree: Path, warn: Callable[[str], None]
) -> bytes:
    """Return the container's mounts, those nearer to the root first; blocking.

    Raises:
        SpecUnsupported: One that cannot be had; the text names it.
    """
    mounts: dict[str, str] = {}
    if spec.shm_size_bytes is not None:
        options = f"x-create=dir,rw,nosuid,nodev,mode=1777,size={spec.shm_size_bytes}"
        mounts["/dev/shm"] = _entry("tmpfs", "/dev/shm", "tmpfs", options)  # noqa: S108
    if not replaces_tmp(spec):
        for target in _own_tmp:
            own = folder / (TEMPORARY + target.replace("/", "-"))
            own.mkdir(exist_ok=True)
            own.chmod(0o1777)
            mounts[target] = _bind(str(own), target)
    for binding in plan_bindings(tree):
        if binding.is_link:
            warn(f"link {binding.target} is left out: only files and folders can be mounted")
        else:
            mounts[binding.target] = _bind(str(binding.source), binding.target)
    for device in spec.devices:
        mounts[device.container] = _bind(device.host, device.container)
    for tmpfs in spec.tmpfs:
        size = f",size={tmpfs.size_bytes}" if tmpfs.size_bytes else ""
        options = f"x-create=dir,rw,nosuid,nodev,mode={tmpfs.mode:o}{size}"
        target = os.path.normpath(tmpfs.target)
        mounts[target] = _entry("tmpfs", target, "tmpfs", options)
    for mount in spec.mounts:
        if mount.source == "tmpfs":  # the Go master's way to ask for one: target:x-create=dir
            target = os.path.normpath(mount.target.partition(":")[0])
            options = "x-create=dir,rw,nosuid,nodev,mode=1777"
            mounts[target] = _entry("tmpfs", target, "tmpfs", options)
            continue
        target = os.path.normpath(mount.target)
        mounts[target] = _bind(
            mount.source, target, read_only=mount.read_only, propagation=mount.propagation
        )
    ordered = sorted(mounts, key=lambda target: (target.count("/"), target))
    return "".join(mounts[target] for target in ordered).encode("utf-8", "surrogateescape")


def _bind(
    source: str, target: str, *, read_only: bool = False, propagation: str = "rprivate"
) -> str:
    if not os.path.exists(source):
        raise SpecUnsupported(f"bind mount {source}: there is no such path on this host")
    if propagation not in _propagations:
        raise SpecUnsupported(f"bind mount {source}: enroot knows no propagation {propagation!r}")
    is_folder = os.path.isdir(source)
    options = (
        f"x-create={'dir' if is_folder else 'file'}",
        "rbind" if is_folder else "bind",
        "ro" if read_only else "rw",
        propagation if is_folder else propagation.removeprefix("r"),
    )
    return _entry(source, target, "none", ",".join(options))


def _entry(source: str, target: str, kind: str, options: str) -> str:
    line = f"{_escape(source)} {_escape(target)} {kind} {options}\n"
    if len(line.encode("utf-8", "surrogateescape")) > _FSTAB_LINE_LIMIT_BYTES:
        raise SpecUnsupported(f"mount at {target[:200]}: enroot takes no names that long")
    return line


def _escape(path: str) -> str:
    """Return a path as fstab has it."""
    return re.sub(r"[\s\\#]", lambda match: f"\\{ord(match[0]):03o}", path)
