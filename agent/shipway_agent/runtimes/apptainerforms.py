"""A container's spec as arguments and environment of apptainer (or singularity)."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shipway_agent.errors import ImageNotFound, SpecUnsupported
from shipway_agent.runtimes.archives import plan_bindings
from shipway_agent.runtimes.devices import gpu_nodes, limiting_variables
from shipway_agent.runtimes.hostview import warn_of_little_shared_memory
from shipway_agent.runtimes.localtmp import replaces_tmp
from shipway_agent.runtimes.spec import ContainerSpec, RegistryAuth

TEMPORARY, HOME, SCRATCH = "tmp", "home", "work"
"""Folders of the container's own, below its folder on the host."""

_schemes = ("instance", "library", "shub", "oras", "docker", "docker-archive", "docker-daemon")
_more_schemes = ("oci", "oci-archive", "http", "https")
_scheme = re.compile(rf"(?:{'|'.join([*_schemes, *_more_schemes])}):")
_identifier = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_own_tmp = ("/tmp", "/var/tmp")  # noqa: S108 (of the container)
_client_variables = ("DOCKER_USERNAME", "DOCKER_PASSWORD", "CACHEDIR", "TMPDIR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What differs between Apptainer and its relatives."""

    prefix: str
    """Of the variables that the program heeds: APPTAINER or SINGULARITY."""
    shows_home: bool
    """Whether a container gets the home folder of the user who runs it, and sees its processes."""


def resolve_image(spec: ContainerSpec, image_root: Path | None) -> str:
    """Return the image as the program is to be told it; blocking.

    Raises:
        ImageNotFound: It is a file that is not there.
        SpecUnsupported: The container names none.
    """
    text = spec.require_image()
    if text.startswith("/"):
        if not os.path.exists(text):
            raise ImageNotFound(f"image {text}: there is no such file on this host")
        return text
    if _scheme.match(text):
        return text
    if image_root is not None and not spec.force_pull and ".." not in text.split("/"):
        path = image_root / text
        if path.exists():
            return str(path)
    return f"docker://{text}"


def is_file(image: str) -> bool:
    """Say whether a resolved image lies on this host."""
    return image.startswith("/")


def run_arguments(
    spec: ContainerSpec,
    folder: Path,
    tree: Path,
    dialect: Dialect,
    warn: Callable[[str], None],
) -> list[str]:
    """Return what follows the verb, up to the image; blocking.

    Raises:
        SpecUnsupported: It cannot give what *spec* asks for.
    """
    arguments = ["--no-eval", "--cleanenv", "--writable-tmpfs", "--no-mount", "tmp"]
    if not dialect.shows_home:
        arguments += ["--pid", "--ipc"]
    if spec.network_mode == "none":
        arguments += ["--net", "--network", "none"]
    arguments += ["--pwd", spec.work_dir] if spec.work_dir else ["--pwd", "/"]
    arguments += _home_arguments(spec, folder, tree, dialect)
    arguments += _mount_arguments(spec, folder, tree, warn)
    if spec.add_capabilities:
        arguments += ["--add-caps", ",".join(map(_capability, spec.add_capabilities))]
    if spec.drop_capabilities:
        arguments += ["--drop-caps", ",".join(map(_capability, spec.drop_capabilities))]
    arguments += _gpu_arguments(spec)
    warn_of_little_shared_memory(spec, warn)
    if spec.force_pull:
        arguments.append("--disable-cache")
    for device in spec.devices:
        if device.host != device.container:
            raise SpecUnsupported(
                f"device {device.host} as {device.container}: apptainer can give a device only"
                " under its own name"
            )
    return arguments


def container_environment(spec: ContainerSpec, dialect: Dialect) -> dict[str, str]:
    """Return the variables by which the program gives the container its own.

    Raises:
        SpecUnsupported: A name that the program would drop without a word.
    """
    variables: dict[str, str] = {}
    limits = {**limiting_variables(spec), **_nvidia_variable(spec)}
    for name, value in {**limits, **spec.environment}.items():
        if name == "HOME":  # the program takes it from --home alone
            continue
        if not _identifier.fullmatch(name):
            raise SpecUnsupported(
                f"environment variable {name!r}: apptainer passes only names of letters, digits"
                " and underscores"
            )
        variables[f"{dialect.prefix}ENV_{name}"] = value
    return variables


def _nvidia_variable(spec: ContainerSpec) -> dict[str, str]:
    """Return what tells programs that look there which cards are theirs; an image may ask for all."""
    if spec.all_gpus == "nvidia":
        return {}
    uuids = [gpu.uuid for gpu in spec.gpus if gpu.vendor == "nvidia"]
    return {"NVIDIA_VISIBLE_DEVICES": ",".join(uuids) or "void"}


def client_variables(
    spec: ContainerSpec, auth: RegistryAuth | None, dialect: Dialect
) -> dict[str, str]:
    """Return what the program itself heeds: credentials, and in a Slurm job where its cache is."""
    variables: dict[str, str] = {}
    if auth is not None:
        variables[f"{dialect.prefix}_DOCKER_USERNAME"] = auth.username
        variables[f"{dialect.prefix}_DOCKER_PASSWORD"] = auth.password
    kept = _client_variables if dialect.shows_home else _client_variables[:2]
    for name in kept:
        for prefix in ("SINGULARITY", "APPTAINER"):
            value = spec.environment.get(f"{prefix}_{name}")
            if value:
                variables[f"{dialect.prefix}_{name}"] = value
    return variables


def _home_arguments(spec: ContainerSpec, folder: Path, tree: Path, dialect: Dialect) -> list[str]:
    home = spec.environment.get("HOME")
    if home is None:
        return [] if dialect.shows_home else ["--no-home"]
    if not home.startswith("/"):
        raise SpecUnsupported(f"environment variable 'HOME': {home!r} is no absolute path")
    own = tree / home.lstrip("/")
    if not own.is_dir():
        own = folder / HOME
        own.mkdir(exist_ok=True)
    if ":" in f"{own}{home}":
        raise SpecUnsupported(f"environment variable 'HOME': apptainer takes no colon in {home!r}")
    return ["--home", f"{own}:{home}"]


def _mount_arguments(
    spec: ContainerSpec, folder: Path, tree: Path, warn: Callable[[str], None]
) -> list[str]:
    mounts: dict[str, str] = {}
    for binding in plan_bindings(tree):
        if binding.is_link:
            warn(f"link {binding.target} is left out: only files and folders can be mounted")
        else:
            mounts[binding.target] = _mount(str(binding.source), binding.target)
    for tmpfs in spec.tmpfs:
        raise SpecUnsupported(f"tmpfs at {tmpfs.target}: apptainer mounts none of a given size")
    for mount in spec.mounts:
        if not os.path.exists(mount.source):
            raise SpecUnsupported(f"bind mount {mount.source}: there is no such path on this host")
        target = os.path.normpath(mount.target)
        mounts[target] = _mount(mount.source, target, read_only=mount.read_only)
    if not replaces_tmp(spec):
        for target in _own_tmp:
            own = folder / (TEMPORARY + target.replace("/", "-"))
            own.mkdir(exist_ok=True)
            own.chmod(0o1777)
            mounts.setdefault(target, _mount(str(own), target))
    if _lacks_work_dir(spec, tree):
        own = folder / SCRATCH
        own.mkdir(exist_ok=True)
        own.chmod(0o1777)
        mounts[os.path.normpath(spec.work_dir)] = _mount(str(own), spec.work_dir)
    ordered = sorted(mounts, key=lambda target: (target.count("/"), target))
    return [word for target in ordered for word in ("--mount", mounts[target])]


def _lacks_work_dir(spec: ContainerSpec, tree: Path) -> bool:
    """Say whether the working folder is one that no image has, and nobody else gives.

    Any other may be the image's own, which only its program can tell; it fails if it is not.
    """
    path = Path(spec.work_dir)
    return (
        path.is_relative_to("/run/determined")
        and not (tree / spec.work_dir.lstrip("/")).is_dir()
        and not any(path.is_relative_to(mount.target) for mount in spec.mounts)
    )


def _mount(source: str, target: str, *, read_only: bool = False) -> str:
    """Return a mount as the program reads it: one line of comma-separated values."""
    line = io.StringIO()
    fields = ["type=bind", f"source={source}", f"destination={target}"]
    csv.writer(line, lineterminator="").writerow([*fields, *(["ro"] if read_only else [])])
    return line.getvalue()


def _gpu_arguments(spec: ContainerSpec) -> list[str]:
    gpu_nodes(spec)  # refuses what this host does not have; --nv would only warn
    vendors = [*(gpu.vendor for gpu in spec.gpus), spec.all_gpus]
    return [
        *(["--nv"] if "nvidia" in vendors else []),
        *(["--rocm"] if "rocm" in vendors else []),
    ]


def _capability(name: str) -> str:
    upper = name.upper()
    return upper if upper.startswith("CAP_") or upper == "ALL" else f"CAP_{upper}"


def parse_dialect(version_text: str, *, shows_home: bool) -> Dialect:
    """Read what `--version` prints: `apptainer version 1.4.5`, `singularity-ce version 4.1.0`."""
    prefix = "APPTAINER" if version_text.startswith("apptainer") else "SINGULARITY"
    return Dialect(prefix=prefix, shows_home=shows_home)
