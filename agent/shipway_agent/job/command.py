"""The command line of a job."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import click

from shipway_common.logsetup import setup_logging

log = logging.getLogger(__name__)


@click.command("job")
@click.argument("task_file", type=click.Path(path_type=Path))
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="What to say on stderr, beside what the task writes there.",
)
def job_command(task_file: Path, log_level: str) -> None:
    """Run the task of TASK_FILE as one process of a Slurm step.

    srun starts it on each node. Exits with the task's exit status; with 125 if the task could not be run.
    """
    from shipway_agent.job.run import EXIT_NOT_STARTED, run_job  # not needed to run the daemon

    setup_logging(log_level)
    try:
        status = run_job(task_file, os.environ)
    except Exception:
        # Python's own exit status for this, 1, would look like the task's.
        log.exception("this is a mistake in Shipway; please report it")
        status = EXIT_NOT_STARTED
    sys.exit(status)
