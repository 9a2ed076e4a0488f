"""A wall clock that can be stepped for one process alone (libfaketime)."""

from __future__ import annotations

from pathlib import Path

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")


def _library() -> Path | None:
    for pattern in _PLACES:
        for found in Path("/").glob(pattern.lstrip("/")):
            return found
    return None


def missing() -> list[str]:
    """Return what stepping a clock needs and this machine lacks."""
    return [] if _library() else ["libfaketime (package faketime)"]


class Clock:
    """A wall clock; only it is stepped, as settimeofday would, not the monotonic one."""

    def __init__(self, folder: Path, name: str) -> None:
        """Keep the offset in a file of *folder*; it is 0 at first."""
        self._file = folder / f"{name}.clock"
        self.step(0)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to live by this clock."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, offset_s: int) -> None:
        """Show the true time plus *offset_s* from now on, in whatever runs by this clock."""
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{offset_s:+d}\n")
        aside.replace(self._file)
