"""Render the batch script of a PBS job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shipway_launcher.batch.template import load_template

_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+,\[\]-]+")

Directive = tuple[str, str | None]
"""An option of qsub: its letter, and its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PbsJob:
    """All that a batch script depends on; the same job always gives the same script."""

    dispatch_id: str
    owner: str
    folder: str
    """Where the job's files are, on the compute nodes too."""
    work_dir: str
    site_options: Sequence[Directive]
    user_options: Sequence[Directive]
    own_options: Sequence[Directive]
    notes: Sequence[str]
    """What the user should know; printed by the job."""
    agent_command: Sequence[str]
    needs_equal_gpus: bool
    """Whether the task fails where hosts have different numbers of GPUs, and PBS chose them."""
    before: str
    after: str


def render_pbs_script(job: PbsJob) -> str:
    """Write the script; it holds no secret, so it can be shown to anybody."""
    return _template.render(job=job)


def render_directive(directive: Directive) -> str:
    """Write an option as qsub reads it in a script."""
    letter, value = directive
    if value is None:
        return f"-{letter}"
    if _PLAIN.fullmatch(value):
        return f"-{letter} {value}"
    if '"' not in value:
        return f'-{letter} "{value}"'
    escaped = re.sub(r"([^A-Za-z0-9_./:=@%+,-])", r"\\\1", value)
    # A backslash at the end would make qsub take the next line as part of this one.
    return f"-{letter} {escaped}" + ('""' if value.endswith("\\") else "")


# Read when the launcher starts: an upgrade may replace the file while this process runs on.
_template = load_template("shipway_launcher.pbs", render_directive)
