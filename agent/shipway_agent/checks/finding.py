"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "ok"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    severity: Severity
    """error: it does not work until somebody changes something."""
    place: str
    """File and key, variable or flag."""
    text: str


def ok(place: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(severity="ok", place=place, text=text)


def warning(place: str, text: str) -> Finding:
    """Return a finding that something is unsafe, or may heal by itself."""
    return Finding(severity="warning", place=place, text=text)


def error(place: str, text: str) -> Finding:
    """Return a finding that something does not work."""
    return Finding(severity="error", place=place, text=text)
