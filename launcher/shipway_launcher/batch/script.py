"""Render the batch script of a dispatch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shipway_launcher.batch.template import load_template
from shipway_launcher.batch.useroptions import Option

_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+,\[\]-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """All that a batch script depends on; the same job always gives the same script."""

    dispatch_id: str
    owner: str
    folder: str
    """Where the job's files are, on the compute nodes too."""
    site_options: Sequence[Option]
    user_options: Sequence[Option]
    own_options: Sequence[Option]
    notes: Sequence[str]
    """What the user should know; printed by the job."""
    agent_command: Sequence[str]
    mpi: str
    srun_variables: Sequence[tuple[str, str]]
    """Variables by which the user steers srun itself."""
    needs_equal_gpus: bool
    """Whether the task fails where nodes have different numbers of GPUs, and Slurm chose them."""
    before: str
    """Lines of the site, run before the tasks; empty for none."""
    after: str
    """Lines of the site, run after them."""


def render_script(job: BatchJob) -> str:
    """Write the script; it holds no secret, so it can be shown to anybody."""
    return _template.render(job=job)


def render_directive(option: Option) -> str:
    """Write an option as sbatch reads it in a script: in double quotes if it needs to be."""
    if option.value is None:
        return f"--{option.name}"
    if _PLAIN.fullmatch(option.value):
        return f"--{option.name}={option.value}"
    escaped = option.value.replace("\\", "\\\\").replace('"', '\\"')
    return f'--{option.name}="{escaped}"'


# Read when the launcher starts: an upgrade may replace the file while this process runs on.
_template = load_template("shipway_launcher.batch", render_directive)
