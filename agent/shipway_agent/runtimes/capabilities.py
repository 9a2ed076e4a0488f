"""Linux capabilities, where we and not an engine decide which a container has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# In the kernel's order (linux/capability.h), which gives each its bit.
_lines = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE",
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO",
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME",
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG",
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE",
)
_names: tuple[str, ...] = tuple(name for line in _lines for name in line.split())

_usual_lines = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP",
    "NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE",
)
_usual: frozenset[str] = frozenset(name for line in _usual_lines for name in line.split())
"""What Docker and Podman give to a container's root."""


def chosen_capabilities(add: Iterable[str], drop: Iterable[str]) -> list[str]:
    """Return what a container's root gets, as engines count it: the usual, less, plus.

    What this process itself lacks is left out.
    """
    added, dropped = ({_normal(name) for name in names} for names in (add, drop))
    base = frozenset(_names) if "ALL" in added else _usual
    kept = frozenset[str]() if "ALL" in dropped else base - dropped
    chosen = (kept | added) & _own_capabilities()
    return [f"CAP_{name}" for name in _names if name in chosen]


def _normal(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _own_capabilities() -> set[str]:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapPrm:"):
            bits = int(line.split()[1], 16)
            return {name for bit, name in enumerate(_names) if bits >> bit & 1}
    return set()
