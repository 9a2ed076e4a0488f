"""How findings are shown, to people and to programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from shipway_agent.checks.finding import Finding

_colours = {"ok": "green", "warning": "yellow", "error": "red"}


def is_fit(findings: Sequence[Finding]) -> bool:
    """Tell whether the agent could run."""
    return not any(finding.severity == "error" for finding in findings)


def render_json(findings: Sequence[Finding]) -> str:
    """Return the findings as one JSON object."""
    found = [asdict(finding) for finding in findings]
    return json.dumps({"ok": is_fit(findings), "findings": found}, indent=2)


def print_lines(findings: Sequence[Finding]) -> None:
    """Print a line for each finding."""
    console = Console(highlight=False, soft_wrap=True)
    for finding in findings:
        console.print(f"[{_colours[finding.severity]}]{finding.severity:7}[/]", end=" ")
        console.print(f"{finding.place}: {finding.text}", markup=False)
