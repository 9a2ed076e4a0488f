"""Releases of Slurm."""

from __future__ import annotations

import re
from typing import NamedTuple


class SlurmVersion(NamedTuple):
    """A release, such as 22.05.8; compares in its order."""

    year: int
    month: int
    patch: int

    def __str__(self) -> str:
        return f"{self.year}.{self.month:02}.{self.patch}"

    @property
    def has_bug_15857(self) -> bool:
        """Whether GPUs over a range of nodes with a task per node are refused without a reason."""
        return SlurmVersion(22, 5, 5) <= self <= SlurmVersion(22, 5, 8)


def parse_version(text: str) -> SlurmVersion | None:
    """Find the release in `slurm 24.11.5` or `slurm-wlm 22.05.8`; None when there is none."""
    match = re.search(r"^slurm(?:-\w+)?\s+(\d+)\.(\d+)(?:\.(\d+))?", text, re.MULTILINE)
    if match is None:
        return None
    year, month, patch = match.groups(default="0")
    return SlurmVersion(int(year), int(month), int(patch))
