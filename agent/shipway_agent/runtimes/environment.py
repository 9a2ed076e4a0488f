"""The environment and the arguments of a container: whole, or refused by name."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.spec import ContainerSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_STRING_LIMIT_BYTES = 131072
"""Linux: MAX_ARG_STRLEN, one argument or one `NAME=value` with the zero byte at its end."""
_MOST_TOTAL_BYTES = 6 << 20
"""Linux: three quarters of the usual stack, however big the stack is."""
_POINTER_BYTES = 8

_client_names = frozenset(
    name
    for names in (
        "PATH HOME USER LOGNAME LANG TMPDIR XDG_RUNTIME_DIR XDG_CONFIG_HOME XDG_DATA_HOME",
        "HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY SSL_CERT_FILE SSL_CERT_DIR",
        "DBUS_SESSION_BUS_ADDRESS REGISTRY_AUTH_FILE",
    )
    for name in names.split()
)
_client_prefixes = (
    *("CONTAINERS_", "CONTAINER_", "STORAGE_", "PODMAN_"),
    *("SINGULARITY_", "APPTAINER_", "ENROOT_"),
)


def check_strings(spec: ContainerSpec, *, utf8_only: bool = False) -> None:
    """Refuse what cannot reach the program unchanged.

    Args:
        spec: Its environment, entry point and arguments are looked at, and its paths and labels.
        utf8_only: The runtime takes JSON, in which other bytes have no form.

    Raises:
        SpecUnsupported: Names the variable or the argument, never a value.
    """
    sizes: dict[str, int] = {}
    for name, value in spec.environment.items():
        if not name or "=" in name:
            raise SpecUnsupported(f"environment variable {name!r}: that is no name")
        what = f"environment variable {name!r}"
        sizes[what] = _check_string(what, f"{name}={value}", utf8_only)
    for position, word in enumerate([*(spec.entrypoint or ()), *spec.argv]):
        sizes[f"argument {position}"] = _check_string(f"argument {position}", word, utf8_only)
    _check_total(sizes)
    for what, text in _other_strings(spec):
        _check_string(what, text, utf8_only)


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return of the agent's environment what a container program needs to find its way."""
    kept = {
        name: value
        for name, value in environ.items()
        if name.upper() in _client_names or name.startswith(_client_prefixes)
    }
    # Engines and their helpers (iptables, newuidmap, fuse) lie where users' paths often do not go.
    path = kept.get("PATH", "")
    missing = [folder for folder in DEFAULT_PATH.split(":") if folder not in path.split(":")]
    kept["PATH"] = ":".join([*([path] if path else []), *missing])
    return kept


def is_client_name(name: str) -> bool:
    """Say whether a container program would itself heed a variable of this name."""
    return (
        name.upper() in _client_names
        or name.upper().startswith(_client_prefixes)
        or name.startswith(("LD_", "GO", "_", "XDG_", "NOTIFY_", "LISTEN_"))
    )


def _check_total(sizes_bytes: Mapping[str, int]) -> None:
    """Refuse strings that are too many together, each of which the kernel also points to."""
    total_bytes = sum(sizes_bytes.values()) + _POINTER_BYTES * len(sizes_bytes)
    limit_bytes = _total_limit_bytes()
    if total_bytes > limit_bytes:
        biggest = max(sizes_bytes, key=lambda what: sizes_bytes[what])
        raise SpecUnsupported(
            f"the environment and the arguments have {total_bytes} bytes together; Linux passes"
            f" {limit_bytes} at most; the biggest is {biggest}, of {sizes_bytes[biggest]} bytes"
        )


def _total_limit_bytes() -> int:
    """Return what execve takes here: a quarter of the stack, within bounds of the kernel's own."""
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if soft == resource.RLIM_INFINITY:
        return _MOST_TOTAL_BYTES
    return max(_STRING_LIMIT_BYTES, min(soft // 4, _MOST_TOTAL_BYTES))


def _other_strings(spec: ContainerSpec) -> Iterator[tuple[str, str]]:
    yield "the working folder", spec.work_dir
    yield "the user", spec.user or ""
    for mount in spec.mounts:
        yield f"bind mount {mount.source!r}", mount.source
        yield f"bind mount target {mount.target!r}", mount.target
    for tmpfs in spec.tmpfs:
        yield f"tmpfs target {tmpfs.target!r}", tmpfs.target
    for device in spec.devices:
        yield f"device {device.host!r}", device.host + device.container
    for name, value in spec.labels.items():
        yield f"label {name!r}", name + value


def _check_string(what: str, text: str, utf8_only: bool) -> int:
    """Return how many bytes a string takes, with the zero at its end."""
    try:
        size_bytes = len(text.encode("utf-8", "surrogateescape")) + 1
    except UnicodeEncodeError:  # JSON can hold the half of a pair, which stands for no bytes
        raise SpecUnsupported(f"{what} holds half of a UTF-16 pair, which is no text") from None
    if "\0" in text:
        raise SpecUnsupported(f"{what} holds a zero byte, which no program can be given")
    if size_bytes > _STRING_LIMIT_BYTES:
        raise SpecUnsupported(
            f"{what} has {size_bytes - 1} bytes; Linux passes {_STRING_LIMIT_BYTES - 1} at most"
        )
    if utf8_only and any("\udc80" <= character <= "\udcff" for character in text):
        raise SpecUnsupported(f"{what} holds bytes that are no UTF-8; this runtime takes text only")
    return size_bytes
