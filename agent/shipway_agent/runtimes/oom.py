"""Whether the kernel killed something of ours for want of memory."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


class OomCounter:
    """Counts the kernel's kills for memory in this process's own memory cgroup since it was made.

    Everything that this process started is in that cgroup, unless it was moved.
    """

    def __init__(self) -> None:
        self._before = _read_oom_kills()

    def has_grown(self) -> bool:
        """Say whether there was such a kill; False as well where the kernel does not tell."""
        now = _read_oom_kills()
        return self._before is not None and now is not None and now > self._before


def _read_oom_kills() -> int | None:
    try:
        membership = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for path in counter_files(membership):
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError:  # that hierarchy is not mounted there, or the file is not in this version
            continue
        for line in text.splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill" and number.isdigit():
                return int(number)
    return None


def counter_files(membership: str) -> list[Path]:
    """Return where the counter may be, from the lines of /proc/self/cgroup."""
    files: list[Path] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files.append(_CGROUPS / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(_CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control")
    return files
