"""Which process below a runtime's own program is the task's first one."""

from __future__ import annotations

import os
from pathlib import Path

from shipway_agent.runtimes.processes import (
    ProcessIdentity,
    ProcessStat,
    all_processes,
    descendants,
    identify,
)

_sandbox_programs = frozenset({"bwrap", "setpriv"})
_apptainer_programs = frozenset(
    {
        "apptainer",
        "singularity",
        "starter",
        "starter-suid",
        "squashfuse",
        "squashfuse_ll",
        "fuse-overlayfs",
        "fuse2fs",
        "gocryptfs",
        "newuidmap",
        "newgidmap",
        "unsquashfs",
        "mksquashfs",
        "proot",
    }
)


def find_bubblewrap_payload(init_pid: int) -> ProcessIdentity | None:
    """Return the process that bwrap's init started, once it runs a program of its own.

    Orphans of the sandbox become children of the init too, but later; so the oldest child counts.
    """
    children = [stat for stat in all_processes() if stat.parent == init_pid and stat.state != "Z"]
    if not children:
        return None
    oldest = min(children, key=lambda stat: (stat.start_ticks, stat.pid))
    return _identity_unless(oldest, _sandbox_programs)


def find_apptainer_payload(main_pid: int) -> ProcessIdentity | None:
    """Return the first process below *main_pid* that runs none of Apptainer's own programs."""
    for stat in descendants(main_pid):
        if stat.state != "Z" and (found := _identity_unless(stat, _apptainer_programs)):
            return found
    return None


def _identity_unless(stat: ProcessStat, programs: frozenset[str]) -> ProcessIdentity | None:
    try:
        program = os.readlink(f"/proc/{stat.pid}/exe")
    except OSError:  # it is gone, or still somebody else's
        return None
    if Path(program.removesuffix(" (deleted)")).name in programs:
        return None
    identity = identify(stat.pid)
    return identity if identity and identity.start_ticks == stat.start_ticks else None
