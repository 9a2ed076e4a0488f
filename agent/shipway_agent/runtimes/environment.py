"""The environment and the arguments of a container: whole, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping

from shipway_agent.errors import SpecUnsupported
from shipway_agent.runtimes.spec import ContainerSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_STRING_LIMIT_BYTES = 131072
"""Linux: MAX_ARG_STRLEN, one argument or one `NAME=value` with the zero byte at its end."""

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
    *("SINGULARITY_", "APPTAINER_"),
)


def check_strings(spec: ContainerSpec, *, utf8_only: bool = False) -> None:
    """Refuse what cannot reach the program unchanged.

    Args:
        spec: Its environment, entry point, arguments and working folder are looked at.
        utf8_only: The runtime takes JSON, in which other bytes have no form.

    Raises:
        SpecUnsupported: Names the variable or the argument, never a value.
    """
    for name, value in spec.environment.items():
        if not name or "=" in name:
            raise SpecUnsupported(f"environment variable {name!r}: that is no name")
        _check_string(f"environment variable {name!r}", f"{name}={value}", utf8_only)
    for position, word in enumerate([*(spec.entrypoint or ()), *spec.argv]):
        _check_string(f"argument {position}", word, utf8_only)
    _check_string("the working folder", spec.work_dir, utf8_only)


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


def _check_string(what: str, text: str, utf8_only: bool) -> None:
    size_bytes = len(text.encode("utf-8", "surrogateescape")) + 1
    if "\0" in text:
        raise SpecUnsupported(f"{what} holds a zero byte, which no program can be given")
    if size_bytes > _STRING_LIMIT_BYTES:
        raise SpecUnsupported(
            f"{what} has {size_bytes - 1} bytes; Linux passes {_STRING_LIMIT_BYTES - 1} at most"
        )
    if utf8_only and any("\udc80" <= character <= "\udcff" for character in text):
        raise SpecUnsupported(f"{what} holds bytes that are no UTF-8; this runtime takes text only")
