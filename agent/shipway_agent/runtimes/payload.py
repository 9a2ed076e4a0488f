"""Which process below a runtime's own program is the task's first one."""

from __future__ import annotations

import os
from pathlib import Path

from shipway_agent.runtimes.processes import (
    ProcessIdentity,
    ProcessStat,
    all_processes,
    descendants,
    find_process,
    identify,
)

_starters = frozenset({"starter", "starter-suid"})
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
        "fusermount",
        "fusermount3",
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
    """Return the first process that Apptainer's starter started and that is no helper of its own.

    What else runs below *main_pid* before, such as ldconfig, is started by another program.
    """
    starters: set[int] = set()
    below = descendants(main_pid)
    main = find_process(main_pid)
    for stat in [main, *below] if main is not None else below:
        if stat.state == "Z":
            continue
        if _program(stat) in _starters:
            starters.add(stat.pid)
        elif stat.parent in starters and (found := _identity_unless(stat, _apptainer_programs)):
            return found
    return None


def find_enroot_payload(main_pid: int) -> ProcessIdentity | None:
    """Return the process that enroot became, unless it still runs the script that comes first."""
    stat = find_process(main_pid)
    try:
        words = Path(f"/proc/{main_pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    is_going = not words[0]  # a process that ends has no words any more
    if stat is None or stat.state == "Z" or is_going:
        return None
    if words[1:] and words[1].startswith(b"/proc/self/fd/"):
        return None
    return identify(main_pid)


def _identity_unless(stat: ProcessStat, programs: frozenset[str]) -> ProcessIdentity | None:
    program = _program(stat)
    if program is None or program in programs:
        return None
    identity = identify(stat.pid)
    return identity if identity and identity.start_ticks == stat.start_ticks else None


def _program(stat: ProcessStat) -> str | None:
    """Return the name of the file that a process runs; None if it is gone, or not ours to see."""
    try:
        program = os.readlink(f"/proc/{stat.pid}/exe")
    except OSError:
        return None
    return Path(program.removesuffix(" (deleted)")).name
