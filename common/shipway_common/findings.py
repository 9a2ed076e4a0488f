"""What the `check` of a daemon finds, and how it is shown."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text


class Grade(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    grade: Grade
    key: str
    """The setting that it is about."""
    text: str


_MARKS = {Grade.OK: ("ok", "green"), Grade.WARNING: ("warn", "yellow"), Grade.ERROR: ("bad", "red")}


def good(key: str, text: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(grade=Grade.OK, key=key, text=text)


def warn(key: str, text: str) -> Finding:
    """Name what works and may not be meant so."""
    return Finding(grade=Grade.WARNING, key=key, text=text)


def bad(key: str, text: str) -> Finding:
    """Name what will not work."""
    return Finding(grade=Grade.ERROR, key=key, text=text)


def show(console: Console, finding: Finding) -> None:
    """Print a finding as one line, in colour on a terminal."""
    mark, style = _MARKS[finding.grade]
    line = Text.assemble((f"{mark:5}", style), (f"{finding.key}: ", "bold"), finding.text)
    console.print(line, soft_wrap=True)
