"""The command lines that are given to PBS."""

from __future__ import annotations

from collections.abc import Collection

PBS_PROGRAMS = ("qsub", "qstat", "qdel", "qsig", "pbsnodes")
"""What the launcher runs itself; jobs run pbs_tmrsh."""

QUERY_ENVIRONMENT = {"TZ": "UTC0", "LC_ALL": "C.UTF-8"}
"""For questions only (qsub would hand it to the job): times come in UTC, and in English."""


def list_jobs() -> list[str]:
    """All jobs of everybody that have not ended."""
    return ["qstat", "-f", "-F", "json"]


def list_ended(job_ids: Collection[str]) -> list[str]:
    """Jobs that may have ended, as far as the server keeps their history."""
    return ["qstat", "-x", "-f", "-F", "json", *sorted(job_ids)]


def list_queues() -> list[str]:
    """All queues."""
    return ["qstat", "-Q", "-f", "-F", "json"]


def show_server() -> list[str]:
    """The server, which knows the default queue."""
    return ["qstat", "-B", "-f", "-F", "json"]


def list_nodes() -> list[str]:
    """All virtual nodes: a host may have several."""
    return ["pbsnodes", "-a", "-v", "-F", "json"]


def submit(script: str) -> list[str]:
    """Submit the script at a path."""
    return ["qsub", script]


def cancel(job_ids: Collection[str]) -> list[str]:
    """End jobs: SIGTERM, and after the server's kill_delay SIGKILL."""
    return ["qdel", *sorted(job_ids)]


def send_signal(job_ids: Collection[str], signal: str) -> list[str]:
    """Send a signal to all processes of running jobs on their first nodes."""
    return ["qsig", "-s", signal, *sorted(job_ids)]


def show_version() -> list[str]:
    """Ask which release this is."""
    return ["qstat", "--version"]
